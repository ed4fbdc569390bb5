// Asks before a caption of somebody else is replaced. Exports: askQuestion.

import { make, show } from "../static/dom.js";

const find = (id) => document.getElementById(id);
let isAnswered = false; // for the rest of this review

find("question").addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") event.preventDefault(); // still held since the step
});

/**
 * Return a promise of whether to go on.
 *
 * action: "edit", "reject" or "replace"; text: the caption; count: of captions to replace.
 */
export function askQuestion(action, text, count = 1) {
  if (isAnswered && action !== "replace") return Promise.resolve(true);
  const many = count.toLocaleString("en");
  const subject = action === "replace" && count > 1 ? `${many} of these captions` : "This caption";
  const was = subject === "This caption" ? "was" : "were";
  find("question-title").textContent = action === "reject" ? "Reject this caption?" : "Replace it?";
  if (subject !== "This caption") find("question-title").textContent = `Replace all ${many}, too?`;
  const parts = [`${subject} ${was} not written by cutline, and may be somebody's own. Undo brings back what it replaces.`];
  if (text) parts.push(make("q", { dir: "auto", textContent: text }));
  find("question-text").replaceChildren(...parts);
  find("question-yes").textContent = action === "reject" ? "Reject" : "Replace";
  show(action !== "replace", find("question-all-label"));
  const dialog = find("question");
  dialog.returnValue = "no";
  dialog.showModal();
  find("question-yes").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const isYes = dialog.returnValue === "yes";
      isAnswered ||= isYes && find("question-all").checked && action !== "replace";
      resolve(isYes);
    }, { once: true });
  });
}
