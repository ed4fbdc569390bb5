// The page of `cutline serve`: images in, captions out.

import { askToken } from "./dialogs.js";
import { show } from "./dom.js";
import { makeRow, save, toCsv, toJsonl, toSidecars } from "./download.js";
import { Gallery } from "./gallery.js";
import { formatBytes } from "./images.js";
import { listenToFiles } from "./intake.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { announce, toast } from "./status.js";

const POLL_TIME = 1500; // milliseconds between questions whether the model is loaded
const WIDE = matchMedia("(min-width: 64rem)"); // as in style.css

const find = (id) => document.getElementById(id);
const server = new Server(askToken);
const settings = new Settings(find("settings-form"), captionAgain);
const infoLoaded = loadInfo();
const gallery = new Gallery(server, settings, () => infoLoaded, showTrouble);
let saved = new Map(); // edited texts that were downloaded, by card

/** Ask for model, defaults and limits until they come; say why they do not. */
async function loadInfo() {
  let info = null;
  while (!info) {
    try {
      info = await server.loadInfo();
    } catch (error) {
      showTrouble(error);
      await waitToRetry(error);
    }
  }
  showTrouble(null);
  find("model").textContent = info.model;
  const size = formatBytes(info.limits.max_image_bytes);
  find("limits").textContent = `As many as you like, up to ${size} each.`;
  settings.use(info);
  return info;
}

/** Wait a little; after a refused token, until somebody wants to enter another. */
function waitToRetry(error) {
  const button = find("enter-token");
  show(error.status === 401, button);
  return new Promise((resolve) => {
    if (error.status === 401) button.onclick = () => { show(false, button); resolve(); };
    else setTimeout(resolve, POLL_TIME);
  });
}

/** Say why the server does not answer; null: it does. */
function showTrouble(error) {
  const what = find("model").textContent ? "The server is restarting" : "The model is loading";
  const texts = {
    0: "The server cannot be reached. This page keeps trying.",
    503: `${what}. This page goes on by itself.`,
  };
  const text = error ? texts[error.status] ?? error.message : "";
  const line = find("notice").querySelector("p");
  if (line.textContent === text) return;
  line.textContent = text;
  show(text !== "", find("notice"));
  announce(text);
}

function captionAgain(description) {
  const count = gallery.captionAgain();
  const images = count === 1 ? "the image" : `${count} images`;
  const text = count ? `${description}: captioning ${images} again.` : `${description}.`;
  find("what-changed").textContent = text;
  announce(text);
}

function toggleSettings(isOpen) {
  show(isOpen, find("settings"));
  find("open-settings").ariaExpanded = String(isOpen);
  document.body.classList.toggle("has-settings", isOpen);
}

function download(format) {
  find("download").open = false;
  const cards = gallery.cards.filter((card) => card.text !== "");
  const rows = cards.map(makeRow);
  const missing = gallery.cards.length - rows.length;
  if (missing) toast(rows.length ? `${missing} without a caption left out.` : "No captions yet.");
  if (!rows.length) return;
  if (format === "jsonl") save(toJsonl(rows), "captions.jsonl", "application/jsonl");
  if (format === "csv") save(toCsv(rows), "captions.csv", "text/csv");
  if (format === "zip") save(toSidecars(rows), "captions.zip");
  saved = new Map(cards.map((card) => [card, card.edited]));
}

function hasUnsavedEdits() {
  const isUnsaved = (card) => card.edited !== null && saved.get(card) !== card.edited;
  return gallery.cards.some((card) => card.editor.isOpen || isUnsaved(card));
}

/** A menu closes as menus do: by Escape, and by a click elsewhere. */
function listenToMenu(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  addEventListener("click", ({ target }) => { if (!menu.contains(target)) menu.open = false; });
  for (const button of menu.querySelectorAll("button")) {
    button.addEventListener("click", () => download(button.dataset.format));
  }
}

function listen() {
  const on = (id, act) => find(id).addEventListener("click", act);
  on("choose", () => find("files").click());
  on("add", () => find("files").click());
  on("photograph", () => find("camera").click());
  on("remove-all", () => gallery.removeAll());
  on("reset", () => { settings.reset(); find("settings").focus(); }); // the button is disabled now
  on("new-seed", () => settings.changeSeed());
  on("open-settings", () => {
    toggleSettings(find("settings").hidden);
    find("settings").focus(); // which is far away for the Tab key
  });
  const closeSettings = () => { toggleSettings(false); find("open-settings").focus(); };
  on("close-settings", closeSettings);
  find("settings").addEventListener("keydown", ({ key }) => {
    if (key === "Escape") closeSettings();
  });
  listenToMenu(find("download"));
  listenToFiles((files) => {
    if (!gallery.cards.length && WIDE.matches) toggleSettings(true);
    gallery.add(files);
  });
  if (/Mac|iP/.test(navigator.platform)) find("paste-key").textContent = "⌘";
  addEventListener("beforeunload", (event) => { if (hasUnsavedEdits()) event.preventDefault(); });
}

listen();
