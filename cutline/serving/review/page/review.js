// The page of `cutline review`: one caption after the other, with the keyboard.

import { show } from "../static/dom.js";
import { announce, toast } from "../static/status.js";
import { api, imageUrl } from "./api.js";
import { FilterForm, isNarrow } from "./filters.js";
import { listenToKeys } from "./keys.js";
import { RowList } from "./list.js";
import { askQuestion } from "./question.js";
import { ReplaceDialog } from "./replace.js";
import { Stage } from "./stage.js";

const PLACE_PAUSE = 400; // milliseconds until the server is told where one is
const NARROW = matchMedia("(max-width: 55.99rem)"); // as in review.css
const find = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

const list = new RowList(
  find("rows"),
  async (view, start, count) => (await api.readView(view, start, count)).rows,
  (index) => { if (NARROW.matches) leaveList(); go(index); },
);
const stage = new Stage((text) => takeText(text));
const filters = new FilterForm((isOrder) => {
  // Another order begins at its first caption; a filter keeps the one that is shown, if it can.
  openView(isOrder ? null : stage.row?.row ?? null, isOrder);
});
const replaceDialog = new ReplaceDialog(confirmReplacement, showReplaced);
let view = 0;
let viewFilter = {}; // of the view, which the form may not be any more
let index = 0;
let isShown = false; // the row that is selected in the list is on the stage
let isBusy = false;
let hasEnded = false;
let numLeft = 0; // captions that are not reviewed
const drafts = new Map(); // texts that were being written when another row was shown, by row
let placeTimer = 0;

// Where one is

async function start() {
  const state = await api.readState();
  find("data-name").textContent = state.name;
  document.title = `${state.name} · cutline review`;
  stage.canCaption = state.can_caption;
  show(state.can_caption, find("propose"), ...document.querySelectorAll(".needs-model"));
  showProgress(state);
  if (state.place.filter) filters.write(state.place.filter);
  const hasPlace = state.place.filter !== undefined;
  const row = state.place.row ?? null;
  await openView(row, !hasPlace);
  if (list.count || !isNarrow(viewFilter)) return;
  filters.write(); // nothing is left of what it chose
  await openView(row);
}

async function openView(row, resumes = false) {
  const filter = filters.read();
  const wasShown = isShown;
  isShown = false;
  const answer = await api.openView(filter, row, resumes).catch(complain);
  if (!answer) isShown = wasShown;
  if (!answer || answer.view < view) return; // a later one was faster
  view = answer.view;
  viewFilter = filter;
  isShown = false;
  list.open(view, answer.count);
  const what = answer.count === 1 ? "1 caption" : `${number(answer.count)} captions`;
  find("count").textContent = what;
  show(isNarrow(filter), find("clear-filter"), find("nothing-all"));
  show(answer.count === 0, find("nothing"));
  show(answer.count > 0, find("stage"));
  find("nothing-hint").textContent = isNarrow(filter)
    ? "No caption passes the filter." : "There are no captions in the data.";
  if (answer.count) await go(answer.index ?? 0);
  else putDraftAside();
}

async function go(to) {
  if (to < 0 || to >= list.count || hasEnded) return;
  isShown = false;
  const putAside = putDraftAside();
  index = to;
  list.select(index);
  const wanted = view;
  try {
    const listed = await list.find(index);
    if (index !== to || view !== wanted) return;
    if (!listed) {
      await openView(null);
      return;
    }
    const row = await api.readRow(listed.row);
    if (index !== to || view !== wanted) return;
    showRow(row);
    if (putAside !== null && putAside !== row.row) offerDraft(putAside);
    list.update([row]);
    announce(`${row.text || "no caption"}, ${row.state}`);
    await preload(index + 1);
  } catch (error) {
    if (error.status === 404) await openView(stage.row?.row ?? null); // the list is too old
    else complain(error);
  }
}

/** Stop editing; a text that is not kept yet comes back with its row, which is returned, or null. */
function putDraftAside() {
  const row = stage.draft === null ? null : stage.row.row;
  if (row !== null) drafts.set(row, stage.draft);
  stage.leave();
  return row;
}

function offerDraft(row) {
  toast("You have a text that is not kept yet.", "Back to it", () => goToRow(row));
}

async function goToRow(row) {
  const found = await api.findInView(view, row).catch(() => ({ index: null }));
  if (found.index !== null) await go(found.index);
  else await openView(row);
}

function showRow(row) {
  stage.show(row, `${number(index + 1)} of ${number(list.count)}`);
  isShown = true;
  if (drafts.has(row.row)) {
    stage.edit(drafts.get(row.row), !find("filter").contains(document.activeElement));
    drafts.delete(row.row);
  }
  clearTimeout(placeTimer);
  placeTimer = setTimeout(tellPlace, PLACE_PAUSE);
}

function tellPlace() {
  clearTimeout(placeTimer);
  return api.setPlace({ row: stage.row.row, filter: viewFilter }).catch(() => {});
}

async function preload(place) {
  if (place >= list.count) return;
  const row = await list.find(place);
  if (row) new Image().src = imageUrl(row.row, "large");
}

function advance() {
  if (index + 1 < list.count) return go(index + 1);
  const text = "That was the last one of this list.";
  if (numLeft === 0) toast("All captions are reviewed.", "Finish", finish);
  else if (find("filter-show").value === "not reviewed") toast(text);
  else toast(text, "Show what is not reviewed", () => { filters.write({ states: ["not reviewed"] }); openView(null); });
  return go(index);
}

function showProgress({ counts, can_undo: canUndo }) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  find("progress").textContent = `${number(total - counts["not reviewed"])} of ${number(total)}`;
  numLeft = counts["not reviewed"];
  find("undo").disabled = !canUndo;
  for (const part of document.querySelectorAll(".meter i")) {
    part.style.width = `${(100 * counts[part.dataset.state]) / Math.max(1, total)}%`;
  }
}

// Steps

/** Make a step for the row that is shown, and go on; ask if the caption is somebody's own. */
async function step(action, fields = {}) {
  if (isBusy || !isShown || hasEnded) return; // nobody has seen a row that is on its way
  isBusy = true;
  const { row, version, text } = stage.row;
  let answer = null;
  try {
    const body = { ...fields, version };
    answer = await api.step(row, action, body).catch(async (error) => {
      if (error.type !== "confirm") throw error;
      if (!(await askQuestion(action, text))) return null;
      return api.step(row, action, { ...body, confirm: true });
    });
  } catch (error) {
    explain(error);
  } finally {
    isBusy = false;
  }
  if (!answer) return;
  stage.leave();
  drafts.delete(row);
  complain(null);
  list.update(answer.rows);
  showProgress(answer);
  await advance();
}

/** Show why a step was not made. */
function explain(error) {
  if (error.status === 404) { // others have changed the data, and removed the row
    toast("This row is not there any more. Here are those that are.");
    openView(null);
    return;
  }
  if (error.type !== "stale") {
    complain(error);
    return;
  }
  const [row] = error.rows;
  list.update(error.rows);
  if (stage.isEditing) {
    stage.showMeanwhile(row);
    announce("This caption has changed meanwhile. Your text is kept.");
  } else {
    toast("Changed in another tab or program. Look again.");
    go(index);
  }
}

function takeText(text) {
  if (text !== undefined) step("edit", { text });
}

async function undo() {
  if (isBusy || hasEnded) return;
  isBusy = true;
  try {
    const answer = await api.undo();
    showProgress(answer);
    if (answer.action === null) {
      toast("There is nothing to undo.");
    } else if (!answer.count) {
      toast("This step cannot be undone: the caption was changed outside of the review.");
    } else {
      showUndone(answer);
    }
  } catch (error) {
    complain(error);
  } finally {
    isBusy = false;
  }
}

async function showUndone({ action, rows, count }) {
  if (rows.length < count) list.reload();
  else list.update(rows);
  const names = { accept: "Accepting", edit: "Editing", reject: "Rejecting", replace: "Replacing" };
  toast(count > 1 ? `${names[action]} in ${number(count)} captions undone.` : `${names[action]} undone.`);
  await goToRow(rows[0].row);
}

async function propose() {
  if (isBusy || !isShown || !stage.canCaption || stage.isEditing || hasEnded) return;
  const { row } = stage.row;
  toast("Captioning …");
  try {
    const caption = await api.propose(row);
    if (stage.row.row !== row) return;
    hideToast();
    stage.showOthers("Captioned anew", caption.alternatives, caption);
    announce(`Captioned anew: ${caption.text}. Press 1 to take it.`);
    find("others").scrollIntoView({ block: "nearest" });
  } catch (error) {
    hideToast();
    complain(error);
  }
}

function hideToast() {
  find("toast").replaceChildren();
}

function confirmReplacement(count) {
  return askQuestion("replace", "", count);
}

function showReplaced(answer) {
  showProgress(answer);
  if (answer.rows.length < answer.count) list.reload();
  else list.update(answer.rows);
  const what = answer.count === 1 ? "1 caption" : `${number(answer.count)} captions`;
  toast(`Replaced in ${what}.`, "Undo", undo);
  go(index);
}

/** Show an error at the top until the next step; null: there is none. */
function complain(error) {
  const text = error?.message ?? "";
  find("notice").textContent = text;
  show(text !== "", find("notice"));
}

// The rest of the page

/** Go back to the captions from the list, or from a field of the filter. */
function leaveList() {
  toggleList(false);
  if (find("side").contains(document.activeElement)) find("main").focus({ preventScroll: true });
}

function toggleList(isOpen = !document.body.classList.contains("has-list")) {
  document.body.classList.toggle("has-list", isOpen);
  find("open-list").ariaExpanded = String(isOpen);
}

async function finish() {
  if (stage.isEditing) {
    toast("Keep your text, or cancel, before you finish.");
    find("editor").focus();
    return;
  }
  if (drafts.size) {
    offerDraft([...drafts.keys()][0]);
    return;
  }
  find("finish").disabled = true;
  try {
    if (isShown) await tellPlace();
    const answer = await api.finish();
    hasEnded = true;
    const { counts } = answer;
    find("ended-text").textContent = `Written: ${answer.written}. ${number(counts.accepted)} accepted, `
      + `${number(counts.edited)} edited, ${number(counts.rejected)} rejected, `
      + `${number(counts["not reviewed"])} not reviewed.`;
    show(false, find("stage"), find("nothing"), find("side"), document.querySelector(".tools"));
    show(true, find("ended"));
    hideToast();
    document.body.classList.add("has-ended");
    find("ended-title").focus();
  } catch (error) {
    find("finish").disabled = false;
    complain(error);
  }
}

function clearFilter() {
  filters.write();
  find("main").focus({ preventScroll: true }); // the button is about to go
  openView(stage.row?.row ?? null);
}

const actions = {
  accept: () => step("accept"),
  edit: () => { if (isShown) stage.edit(); },
  reject: () => step("reject"),
  keep: () => step("edit", { text: find("editor").value }),
  leave: () => { stage.leave(); go(index); },
  previous: () => go(index - 1),
  next: () => go(index + 1),
  undo,
  propose,
  finish,
  "open-list": () => toggleList(),
  "open-help": () => find("help").showModal(),
  "open-replace": () => replaceDialog.open(filters.read(), find("filter-text").value),
  "clear-filter": clearFilter,
  "nothing-all": clearFilter,
};
for (const [id, act] of Object.entries(actions)) find(id).addEventListener("click", act);
listenToKeys({
  ...actions,
  filter: () => { if (NARROW.matches) toggleList(true); find("filter-text").select(); },
  take: (place) => takeText(stage.others[place]),
  isEditing: () => stage.isEditing,
  closeList: leaveList,
});
addEventListener("beforeunload", (event) => {
  if (!hasEnded && (drafts.size || stage.draft !== null)) event.preventDefault();
});
start().catch(complain);
