// The elements of an image with its caption. Exports: makeCardElements.

import { make } from "./dom.js";

/**
 * Make the elements of a card.
 *
 * `parts` go into it: view, editor and alternatives, whose `element` is shown, and a canvas over
 * the image. `on` has what happens: edit, copy, remove, retry, restore, pressKey(event).
 */
export function makeCardElements(name, { view, editor, alternatives, canvas }, on) {
  const button = (text, onclick, className = "link") => {
    const ariaLabel = `${text}: ${name}`; // there is one on every card
    return make("button", { type: "button", className, textContent: text, ariaLabel, onclick });
  };
  const made = {
    placeholder: make("p", { className: "placeholder", textContent: "No preview" }),
    photo: make("div", { className: "photo" }, canvas),
    readout: make("p", { className: "readout" }),
    says: make("span"),
    restore: button("Use it", on.restore),
    headline: make("strong"),
    reason: make("p"),
    retry: button("Try again", on.retry, ""),
    editButton: button("Edit", on.edit),
    copyButton: button("Copy", on.copy),
  };
  const { headline, reason, retry, says, restore } = made;
  made.original = make("p", { className: "original", hidden: true }, says, " ", restore);
  made.error = make("div", { className: "error", hidden: true }, headline, reason, retry);
  view.element.addEventListener("dblclick", on.edit);
  const caption = make(
    "figcaption", {},
    view.element, editor.element, made.readout, made.original, made.error, alternatives.element,
  );
  const figure = make("figure", {}, make("div", { className: "plate" }, made.photo), caption);
  const title = { className: "name", dir: "auto", textContent: name, title: name };
  const remove = button("Remove", on.remove, "link remove");
  const actions = make("div", { className: "actions" }, made.editButton, made.copyButton, remove);
  const properties = { className: "card", onkeydown: on.pressKey };
  made.element = make("li", properties, figure, make("h3", title), actions);
  return made;
}
