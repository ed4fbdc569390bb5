// A text field in place of a caption. Exports: Editor.

import { make, show } from "./dom.js";

export class Editor {
  #onClose;
  #isOpen = false;

  /** onClose(text, byKey) is called when editing ends; text is null if it was given up. */
  constructor(label, onClose) {
    this.#onClose = onClose;
    this.element = make("textarea", {
      className: "editor",
      rows: 1,
      dir: "auto",
      hidden: true,
      spellcheck: true,
      ariaLabel: label,
      onkeydown: (event) => this.#pressKey(event),
      oninput: () => this.#fit(),
      onblur: () => this.#close(this.element.value),
    });
  }

  get isOpen() {
    return this.#isOpen;
  }

  /** Edit a text; the browser's own undo works in the field. */
  open(text) {
    this.#isOpen = true;
    this.element.value = text;
    show(true, this.element);
    this.#fit();
    this.element.focus();
    this.element.setSelectionRange(text.length, text.length);
  }

  #pressKey(event) {
    event.stopPropagation(); // Delete is for the text here
    if (event.isComposing) return; // Enter ends the input of Chinese or Japanese characters
    if (event.key === "Escape") this.#close(null, true);
    else if (event.key === "Enter") {
      event.preventDefault();
      this.#close(this.element.value, true);
    }
  }

  #close(text, byKey = false) {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    show(false, this.element);
    // A caption is one line, whatever was pasted.
    this.#onClose(text === null ? null : text.trim().split(/\s+/).join(" "), byKey);
  }

  #fit() {
    this.element.style.height = "auto";
    this.element.style.height = `${this.element.scrollHeight}px`;
  }
}
