// The image on the stage, with its caption: shown, edited, compared with others. Exports: Stage.

import { CaptionView, findWords, percent } from "../static/caption.js";
import { make, show } from "../static/dom.js";
import { ExplanationView } from "../static/explanations.js";
import { api, imageUrl } from "./api.js";
import { SIGNS } from "./list.js";

const find = (id) => document.getElementById(id);

export class Stage {
  #caption;
  #proposal;
  #maps = [];
  #image = null;
  row = null; // what is shown
  others = []; // texts that a digit takes
  canCaption = false;

  /**
   * take(text): another caption was chosen
   */
  constructor(take) {
    this.take = take;
    this.#caption = this.#makeView(find("caption-place"), find("about-word"));
    this.#proposal = this.#makeView(find("proposal-place"), find("about-proposal"));
    find("other-texts").addEventListener("click", (event) => {
      const item = event.target.closest("button");
      if (item) take(this.others[Number(item.dataset.number)]);
    });
    find("take-proposal").addEventListener("click", () => take(this.others[0]));
    const editor = find("editor");
    editor.addEventListener("input", fitEditor);
    new ResizeObserver(fitEditor).observe(find("editor-place"));
  }

  get isEditing() {
    return !find("editor-place").hidden;
  }

  /** Return a function that shows a caption, its words, and how sure the captioner is. */
  #makeView(place, about) {
    const write = (text) => { about.textContent = text; };
    let line = "";
    const load = (text) => api.explain(this.row.row, text);
    const maps = new ExplanationView(load, write);
    this.#maps.push(maps);
    let words = [];
    const view = new CaptionView((index) => {
      if (this.canCaption) maps.point(index);
      else write(index === null ? line : describeWord(words[index]));
    });
    place.append(view.element);
    return (text, measured, confidence, isNone = false) => {
      words = measured.length || isNone ? measured : findWords(text);
      line = confidence === null ? "" : `${percent(confidence)} sure`;
      // The captioner knows captions of one line.
      const known = text.includes("\n") ? [] : words;
      view.showWords(text, this.canCaption ? known : measured);
      maps.setCaption({ text, words, prompt: undefined, line });
      return view.element;
    };
  }

  /** Show a row. */
  show(row, position) {
    const isNew = row.row !== this.row?.row;
    this.row = row;
    find("file").textContent = row.name || row.file;
    find("position").textContent = position;
    const mark = find("mark");
    mark.dataset.state = row.state;
    mark.textContent = `${SIGNS[row.state]} ${row.state}`.trim();
    this.#showNote(row);
    // Confidence is that of the captioner, in the text that it wrote.
    const sure = row.text && row.original === null ? row.confidence : null;
    const element = this.#caption(row.text || "no caption yet", row.words ?? [], sure, row.text === "");
    element.classList.toggle("is-none", !row.text);
    find("stage").querySelector(".panel").classList.toggle("is-rejected", row.state === "rejected");
    find("accept").disabled = !row.text;
    find("reject").disabled = row.state === "rejected";
    if (isNew) this.#showImage(row);
    if (isNew) this.showOthers("Other captions", row.alternatives ?? []);
  }

  #showNote(row) {
    const note = find("meanwhile");
    note.replaceChildren();
    if (row.changed_outside) note.append("Somebody has changed this caption outside of the review. ");
    if (row.original !== null) {
      note.append("Before: ", make("q", { dir: "auto", textContent: row.original || "no caption" }));
    }
    show(note.childNodes.length > 0, note);
  }

  #showImage(row) {
    const photo = find("photo");
    const problem = find("image-problem");
    show(false, problem);
    const image = make("img", { alt: `Image ${row.name || row.file}`, decoding: "async" });
    image.addEventListener("load", () => {
      photo.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
      this.#image?.remove();
      this.#image = image;
      photo.prepend(image);
    });
    image.addEventListener("error", async () => {
      this.#image?.remove();
      const answer = await fetch(image.src).then((response) => response.json()).catch(() => null);
      problem.textContent = answer?.error.message ?? "The image cannot be shown.";
      show(true, problem);
    });
    const current = row.row;
    image.src = imageUrl(row.row, "large");
    image.decode?.().catch(() => {}).then(() => { if (this.row.row !== current) image.src = ""; });
    for (const maps of this.#maps) if (!maps.canvas.isConnected) photo.append(maps.canvas);
  }

  /** Show other captions, each with a digit; `first` has words to point at. */
  showOthers(title, others, first = null) {
    this.others = others.map((each) => each.text);
    find("others-title").textContent = title;
    if (first) this.#proposal(first.text, first.words, first.confidence);
    show(first !== null, find("proposal"));
    const items = others.map(makeOther);
    find("other-texts").replaceChildren(...items.slice(first ? 1 : 0));
    show(others.length > 0, find("others"));
  }

  /** Return a text that is being written, and differs from the caption; null if there is none. */
  get draft() {
    const text = find("editor").value;
    return this.isEditing && text !== this.row.text ? text : null;
  }

  /** Let the caption be edited. */
  edit(text = this.row.text, takesFocus = true) {
    const editor = find("editor");
    editor.value = text;
    this.#toggle(true);
    find("editor-hint").textContent = this.row.has_lines
      ? "Shift + Enter begins another caption: one on each line." : "";
    fitEditor();
    if (takesFocus) editor.focus();
    editor.setSelectionRange(text.length, text.length);
  }

  /** Stop editing. */
  leave() {
    if (!this.isEditing) return;
    const hadFocus = find("stage").contains(document.activeElement); // not a filter, say
    this.#toggle(false);
    if (hadFocus) find("main").focus({ preventScroll: true });
  }

  #toggle(isEditing) {
    show(isEditing, find("editor-place"), find("editor-steps"));
    show(!isEditing, find("caption-place"), find("steps"), find("about-word"));
  }

  /** Show beside the own text what somebody else has made of the caption meanwhile. */
  showMeanwhile(row) {
    this.row = { ...this.row, ...row };
    const note = find("meanwhile");
    const state = row.state === "rejected" ? "rejected. Its text: " : "changed: ";
    const use = () => { find("editor").value = row.text; fitEditor(); find("editor").focus(); };
    note.replaceChildren(
      `Meanwhile, in another tab or program, this caption was ${state}`,
      make("q", { dir: "auto", textContent: row.text || "no caption" }),
      " Keep your text, or ",
      make("button", { type: "button", className: "link", textContent: "use this one", onclick: use }),
    );
    show(true, note);
  }
}

function describeWord({ text, confidence }) {
  return confidence === undefined ? text : `${text} · ${percent(confidence)} sure`;
}

function makeOther({ text, confidence }, number) {
  const button = make("button", { type: "button" });
  button.dataset.number = number;
  if (number < 9) button.append(make("kbd", { textContent: number + 1 }));
  button.append(make("span", { className: "text", dir: "auto", textContent: text }));
  if (confidence !== null) {
    button.append(make("span", { className: "number", textContent: percent(confidence) }));
  }
  return make("li", {}, button);
}

function fitEditor() {
  const editor = find("editor");
  editor.style.height = "auto";
  editor.style.height = `${editor.scrollHeight + 2}px`;
}
