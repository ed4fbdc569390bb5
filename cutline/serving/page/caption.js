// Shows a caption: word by word while it is written, then as words to point at.
// Exports: CaptionView, findWords, percent, describeSureness.

import { make, nextId } from "./dom.js";

const MEDIUM = 0.8;
const LOW = 0.5; // below it, a word is more likely wrong than right
const WORD = /[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*/gu;

/** Return a confidence in words, such as "82 %". */
export function percent(confidence) {
  return confidence > 0 && confidence < 0.01 ? "< 1 %" : `${Math.round(100 * confidence)} %`;
}

/** Return "low", "medium" or "high". */
export function describeSureness(confidence) {
  if (confidence < LOW) return "low";
  return confidence < MEDIUM ? "medium" : "high";
}

/** Return the words of a text that nobody has measured, as the server returns those it has. */
export function findWords(text) {
  return [...text.matchAll(WORD)].map((match) => ({
    text: match[0],
    start: [...text.slice(0, match.index)].length,
    end: [...text.slice(0, match.index + match[0].length)].length,
  }));
}

/**
 * A caption on the page.
 *
 * Its words are a list box: one stop for Tab, arrow keys from word to word.
 *   onWord(index): a word was pointed at, or reached by arrow keys; null: none is any more
 */
export class CaptionView {
  #onWord;
  #words = [];
  #current = null;
  #pinned = null; // a click, or a finger, keeps a word
  #settled = null;
  #draft = null;

  constructor(onWord) {
    this.#onWord = onWord;
    this.element = make("p", {
      className: "caption",
      dir: "auto",
      onpointerover: (event) => this.#hover(event),
      onpointerleave: () => this.#select(this.#pinned),
      onclick: (event) => this.#pin(event),
      onkeydown: (event) => this.#pressKey(event),
      onfocus: () => this.#enter(),
      onblur: () => this.#leave(),
    });
  }

  /** Begin anew; the old text stays, faded, until the new one begins. */
  startStream() {
    this.#stopList();
    this.element.replaceChildren(this.element.textContent); // words are those of a list only
    this.element.ariaBusy = "true";
    this.element.classList.add("is-old");
    this.#settled = null;
  }

  /** Append settled text, and replace the draft after it. */
  addText(text, draft) {
    if (this.element.ariaBusy === null) return; // another text has been shown meanwhile
    if (!this.#settled) {
      this.#settled = make("span", { className: "settled" });
      this.#draft = make("span", { className: "draft" });
      this.element.replaceChildren(this.#settled, this.#draft);
      this.element.classList.remove("is-old");
    }
    if (text) this.#settled.append(make("span", { className: "new", textContent: text }));
    if (this.#draft.textContent !== draft) this.#draft.textContent = draft;
  }

  /** Show a finished caption; `words` have text, start, end and perhaps confidence. */
  showWords(text, words) {
    this.#stopList();
    const characters = [...text]; // Python counts characters, not UTF-16 units
    const parts = [];
    let end = 0;
    for (const word of words) {
      parts.push(characters.slice(end, word.start).join(""));
      parts.push(this.#makeWord(characters.slice(word.start, word.end).join(""), word));
      end = word.end;
    }
    parts.push(characters.slice(end).join(""));
    this.element.replaceChildren(...parts.filter((part) => part !== ""));
    if (this.#words.length) this.#startList(text);
  }

  /** Show nothing. */
  clear() {
    this.#stopList();
    this.element.replaceChildren();
  }

  #makeWord(text, { confidence }) {
    const word = make("span", { className: "word", role: "option", textContent: text });
    word.id = nextId("word");
    word.ariaSelected = "false";
    if (confidence !== undefined) {
      word.dataset.sure = describeSureness(confidence);
      word.ariaLabel = `${text}, ${percent(confidence)} sure`;
    }
    this.#words.push(word);
    return word;
  }

  #startList(text) {
    const { element } = this;
    element.role = "listbox";
    element.ariaOrientation = "horizontal";
    element.ariaLabel = `Caption: ${text}. Arrow keys show where the model looked for each word.`;
    element.tabIndex = 0;
  }

  #stopList() {
    this.#leave();
    this.#words = [];
    this.element.classList.remove("is-old");
    for (const name of ["role", "aria-orientation", "aria-label", "aria-busy", "tabindex"]) {
      this.element.removeAttribute(name);
    }
  }

  #hover(event) {
    const index = this.#words.indexOf(event.target);
    if (event.pointerType === "touch") return; // a tap is a click
    this.#select(index >= 0 ? index : this.#pinned);
  }

  #pin(event) {
    const index = this.#words.indexOf(event.target);
    this.#pinned = index < 0 || index === this.#pinned ? null : index;
    this.#select(this.#pinned);
  }

  #enter() {
    if (this.element.matches(":focus-visible") && this.#current === null) this.#select(0);
  }

  #leave() {
    this.#pinned = null;
    this.#select(null);
  }

  #pressKey(event) {
    const last = this.#words.length - 1;
    const current = this.#current ?? -1;
    const next = {
      ArrowRight: Math.min(last, current + 1),
      ArrowLeft: Math.max(0, current - 1),
      Home: 0,
      End: last,
    }[event.key];
    if (last < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#pinned = next;
    this.#select(next);
  }

  /** Escape hides what pointing has shown, wherever the focus is. */
  #escape = (event) => { if (event.key === "Escape") this.#leave(); };

  #select(index) {
    if (index === this.#current) return;
    if (index === null) document.removeEventListener("keydown", this.#escape);
    else document.addEventListener("keydown", this.#escape);
    this.#current = index;
    this.#words.forEach((word, number) => { word.ariaSelected = String(number === index); });
    if (index === null) this.element.removeAttribute("aria-activedescendant");
    else this.element.setAttribute("aria-activedescendant", this.#words[index].id);
    this.#onWord(index);
  }
}
