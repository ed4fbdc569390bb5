// Tells what happens: to the eye in a toast, to a screen reader in a live region.
// Exports: announce, toast, copyText.

import { make } from "./dom.js";

const PAUSE = 400; // milliseconds in which announcements are joined
const TOAST_TIME = 8000; // long enough to reach its button
let texts = [];
let announceTimer = 0;
let toastTimer = 0;

/** Read a text out; of many at once, only the last summary. */
export function announce(text, summary = text) {
  texts.push(text);
  clearTimeout(announceTimer);
  announceTimer = setTimeout(() => {
    const live = document.getElementById("live");
    live.textContent = texts.length > 2 ? summary : texts.join(". ");
    texts = [];
  }, PAUSE);
}

/** Show a message for a while, with a button that does something about it. */
export function toast(text, label = "", act = null) {
  const box = document.getElementById("toast");
  const hide = () => box.replaceChildren();
  const parts = [make("span", { textContent: text })];
  if (act) {
    const press = () => { hide(); act(); };
    parts.push(make("button", { type: "button", textContent: label, onclick: press }));
  }
  box.replaceChildren(...parts);
  clearTimeout(toastTimer);
  const wait = () => { toastTimer = setTimeout(end, TOAST_TIME); };
  // It stays while somebody points at it, or has the focus in it.
  const end = () => (box.matches(":hover, :focus-within") ? wait() : hide());
  wait();
}

/** Copy a text; return whether that worked. */
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not allowed: try the old way */ }
  }
  // There is no clipboard on a page that came over plain HTTP from another machine.
  const area = make("textarea", { value: text, className: "unseen" });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isCopied;
}
