// An image with its caption. Exports: Card.

import { Alternatives } from "./alternatives.js";
import { CaptionView, findWords, percent } from "./caption.js";
import { makeCardElements } from "./card_elements.js";
import { show } from "./dom.js";
import { Editor } from "./editor.js";
import { ExplanationView } from "./explanations.js";
import { announce, copyText, toast } from "./status.js";

/**
 * The state of a card, in `data-state`:
 *   waiting, writing, done, failed
 * `caption` is the latest one of the model, `shown` what is shown of it (a choice among its
 * alternatives), `edited` the text of a person, which replaces it, or null.
 */
export class Card {
  isSendable = true; // not an image that the server would refuse
  caption = null;
  shown = null;
  edited = null;
  #prompt;
  #isNewer = false; // the model has written another caption since the edit

  /**
   * actions: remove(card), retry(card), change(), step(card, direction),
   *   explain(file, caption, prompt), which returns a promise
   */
  constructor(file, id, actions) {
    Object.assign(this, { file, id, actions });
    this.name = file.path ?? file.name;
    this.explanation = new ExplanationView(
      (caption, prompt) => actions.explain(file, caption, prompt),
      (line) => { this.readout.textContent = line; },
    );
    this.view = new CaptionView((index) => this.explanation.point(index));
    this.editor = new Editor(`Caption of ${this.name}`, (text, byKey) => this.#keep(text, byKey));
    this.alternatives = new Alternatives((caption) => this.#choose(caption));
    const canvas = this.explanation.canvas;
    const { view, editor, alternatives } = this;
    Object.assign(this, makeCardElements(this.name, { view, editor, alternatives, canvas }, {
      edit: () => this.edit(),
      copy: () => this.copy(),
      remove: () => actions.remove(this),
      retry: () => actions.retry(this),
      restore: () => this.#restore(),
      pressKey: (event) => this.#pressKey(event),
    }));
    this.setState("waiting", "Waiting …");
  }

  /** Return the text of the caption: a person's, else the model's. */
  get text() {
    return this.edited ?? this.shown?.text ?? "";
  }

  get isBusy() {
    return ["waiting", "writing"].includes(this.element.dataset.state);
  }

  /** Show an image element; null stands for one that the browser cannot show. */
  showPreview(image) {
    if (image) {
      this.image = image;
      image.alt = this.text || this.name;
      this.photo.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight || 1);
      this.photo.prepend(image);
    } else {
      this.photo.style.setProperty("--ratio", 1.6);
      this.photo.prepend(this.placeholder);
    }
  }

  /** Take a state, and show a line about it. */
  setState(state, line = this.#describe()) {
    this.element.dataset.state = state;
    this.readout.textContent = line;
    show(state === "failed", this.error);
    this.copyButton.disabled = this.text === "";
    this.editButton.disabled = this.isBusy && this.text === "";
    this.actions.change();
  }

  /** Show that the caption is about to be written, by a model that got this prompt. */
  begin(prompt) {
    this.#prompt = prompt;
    if (!this.#isPersons) this.view.startStream();
    this.setState("writing", "Looking …");
  }

  /** Show the next words. */
  addText({ candidate, text, draft = "" }) {
    if (candidate !== 0) return;
    this.view.addText(text, draft);
    this.readout.textContent = "Writing …";
  }

  /** Show the finished caption, unless a person's text is there. */
  finish(caption, summary) {
    const isChosen = this.shown !== null && this.shown.text !== this.caption?.text;
    const same = caption.alternatives?.find((each) => each.text === this.shown?.text);
    this.#isNewer = this.edited !== null && caption.text !== this.caption?.text;
    this.caption = caption;
    this.shown = (isChosen && same) || caption;
    this.#render();
    this.setState("done");
    const news = this.#isPersons ? "your text stays" : this.text;
    announce(`${this.name}: ${news}`, summary);
  }

  /** Show why there is no caption, and what can be done. */
  fail(message, canRetry) {
    if (this.text) this.#render();
    else this.view.clear();
    this.headline.textContent = this.text ? "Not captioned again" : "No caption";
    this.reason.textContent = toSentence(message);
    show(canRetry, this.retry);
    this.setState("failed");
    announce(`${this.name}: ${message}`);
  }

  /** Show why the image cannot be captioned with any settings. */
  refuse(message) {
    this.isSendable = false;
    this.fail(message, false);
  }

  focus() {
    (this.view.element.tabIndex === 0 ? this.view.element : this.editButton).focus();
  }

  /** Edit the caption. */
  edit() {
    show(false, this.view.element);
    this.editor.open(this.text);
  }

  async copy() {
    const isCopied = await copyText(this.text);
    toast(isCopied ? "Copied." : "The browser does not allow copying. Select the text instead.");
  }

  get #isPersons() {
    return this.edited !== null || this.editor.isOpen;
  }

  #render() {
    const isEdited = this.edited !== null;
    const words = isEdited ? findWords(this.edited) : this.shown?.words ?? [];
    this.view.showWords(this.text, words);
    const { text } = this;
    this.explanation.setCaption({ text, words, prompt: this.#prompt, line: this.#describe() });
    this.alternatives.show(this.caption?.alternatives ?? [], isEdited ? null : this.shown?.text);
    this.element.classList.toggle("is-edited", isEdited);
    show(isEdited && this.caption !== null, this.original);
    this.says.textContent = this.#describeOriginal();
    if (this.image) this.image.alt = this.text || this.name;
    this.placeholder.textContent = this.caption ? this.#describeType() : "No preview";
    if (!this.isBusy) this.setState("done");
  }

  #describeType() {
    const type = /\.([^.]{1,5})$/.exec(this.name)?.[1].toUpperCase();
    return `No preview: this browser cannot show ${type ?? "these"} images; the model can.`;
  }

  #describeOriginal() {
    if (!this.caption) return "";
    return `The model ${this.#isNewer ? "now writes" : "wrote"}: “${this.caption.text}”`;
  }

  #describe() {
    if (this.edited !== null) return "Edited"; // a line always, so that nothing moves
    if (!this.shown) return "";
    if (!this.text) return "The model wrote no words.";
    const isCut = this.shown.finish_reason === "length";
    const end = isCut ? " · cut at the limit" : "";
    return `Confidence ${percent(this.shown.confidence)}${end}`;
  }

  #choose(caption) {
    this.shown = caption;
    this.edited = null;
    const { activeElement } = document;
    const index = this.caption.alternatives.indexOf(caption);
    this.#render();
    // The list was made anew: the focus stays on the choice.
    if (!activeElement?.isConnected) {
      this.alternatives.element.querySelectorAll("input")[index]?.focus();
    }
    announce(`Chosen: ${caption.text}`);
  }

  #keep(text, byKey) {
    show(true, this.view.element);
    const isNew = text !== null && text !== this.text;
    if (isNew && text === "") toast("An empty caption is not kept.");
    else if (isNew) {
      this.edited = text;
      this.#isNewer = false;
      announce("Your text is kept");
    }
    if (this.edited !== null || this.shown) this.#render();
    if (byKey) this.focus();
  }

  #restore() {
    const [text, isNewer] = [this.edited, this.#isNewer];
    this.edited = null;
    this.shown = this.caption;
    this.#render();
    this.view.element.focus();
    toast("The model’s caption is back.", "Undo", () => {
      this.edited = text;
      this.#isNewer = isNewer;
      this.#render();
    });
  }

  #pressKey(event) {
    if (event.target.matches("input, textarea") || event.ctrlKey || event.metaKey) return;
    const isCaption = event.target === this.view.element;
    const act = {
      Delete: () => this.actions.remove(this),
      Backspace: () => this.actions.remove(this), // the key that a Mac calls delete
      ...(isCaption && {
        Enter: () => this.edit(),
        F2: () => this.edit(),
        ArrowDown: () => this.actions.step(this, 1),
        ArrowUp: () => this.actions.step(this, -1),
      }),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

/** The server's messages may go on after a colon in a log: here they stand alone. */
function toSentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${end}`;
}
