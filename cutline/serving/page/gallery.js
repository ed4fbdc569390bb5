// The images on the page, and the work on their captions. Exports: Gallery.

import { Card } from "./card.js";
import { show } from "./dom.js";
import {
  checkFile, checkPixels, loadPreview, releasePreview, renewPreview,
} from "./images.js";
import { Queue } from "./queue.js";
import { ServerError } from "./server.js";
import { toast } from "./status.js";

const MAX_REQUESTS = 4; // of the six that a browser opens; heat-maps need the others
const ADVICE = {
  deadline_exceeded: "This took too long. Lower the beams, or try again.",
  internal_error: "The server failed at this image. Try again, or tell its administrator.",
};

const REFUSED = new Set(["invalid_image", "too_large", "unsupported_media_type"]);

const find = (id) => document.getElementById(id);

export class Gallery {
  cards = [];
  #server;
  #settings;
  #loadInfo;
  #onTrouble;
  #queue = new Queue(MAX_REQUESTS);
  #jobs = new Map(); // by card
  #ids = new Set();
  #actions;

  /**
   * loadInfo() returns a promise of GET /v1/info.
   * onTrouble(error) is called when the server does not answer; with null when it does again.
   */
  constructor(server, settings, loadInfo, onTrouble) {
    this.#server = server;
    this.#settings = settings;
    this.#loadInfo = loadInfo;
    this.#onTrouble = onTrouble;
    this.#actions = {
      remove: (card) => this.remove(card),
      retry: (card) => this.#enqueue(card),
      change: () => this.#showProgress(),
      step: (card, direction) => this.cards[this.cards.indexOf(card) + direction]?.focus(),
      explain: (...request) => this.#explain(...request),
    };
  }

  /** Add files in their order, and caption them. */
  async add(files) {
    const added = files.map((file) => new Card(file, this.#chooseId(file), this.#actions));
    this.cards.push(...added);
    find("cards").append(...added.map((card) => card.element));
    this.#render();
    const { limits } = await this.#loadInfo();
    for (const card of added) await this.#prepare(card, limits);
  }

  /** Caption all images with the new settings; return their number. */
  captionAgain() {
    const cards = this.cards.filter((card) => card.isSendable);
    cards.forEach((card) => this.#enqueue(card));
    return cards.length;
  }

  /** Remove an image, which can be undone. */
  remove(card) {
    const index = this.cards.indexOf(card);
    const isPending = this.#stop(card);
    this.cards.splice(index, 1);
    card.element.remove();
    releasePreview(card.image);
    this.#render();
    this.#focus(index);
    toast(`Removed ${card.name}.`, "Undo", () => {
      this.cards.splice(index, 0, card);
      find("cards").insertBefore(card.element, find("cards").children[index] ?? null);
      this.#restore([card], isPending ? [card] : []);
      card.focus();
    });
  }

  /** Remove all images, which can be undone. */
  removeAll() {
    const removed = this.cards;
    const pending = removed.filter((card) => this.#stop(card));
    this.cards = [];
    find("cards").replaceChildren();
    removed.forEach((card) => releasePreview(card.image));
    this.#render();
    this.#focus(0);
    const count = removed.length === 1 ? "one image" : `${removed.length} images`;
    toast(`Removed ${count}.`, "Undo", () => {
      this.cards.unshift(...removed);
      find("cards").prepend(...removed.map((card) => card.element));
      this.#restore(removed, pending);
      this.#focus(0);
    });
  }

  #restore(cards, pending) {
    cards.forEach((card) => renewPreview(card.image, card.file));
    pending.forEach((card) => this.#enqueue(card));
    this.#render();
  }

  #focus(index) {
    const card = this.cards[Math.min(index, this.cards.length - 1)];
    if (card) card.focus();
    else find("choose").focus();
  }

  /** Return the name of a file, with a number if another image had the same. */
  #chooseId(file) {
    const name = file.path ?? file.name;
    let id = name;
    for (let number = 2; this.#ids.has(id); number += 1) {
      id = name.replace(/(\.[^./]*)?$/, ` (${number})$1`);
    }
    this.#ids.add(id);
    return id;
  }

  /** Show an image, and caption it unless the server would refuse it. */
  async #prepare(card, limits) {
    const problem = checkFile(card.file, limits);
    const image = problem ? null : await loadPreview(card.file);
    card.showPreview(image);
    const isLarge = image && checkPixels(image.naturalWidth, image.naturalHeight, limits);
    if (problem || isLarge) card.refuse(problem ?? isLarge);
    else if (this.cards.includes(card)) this.#enqueue(card);
  }

  #enqueue(card) {
    this.#stop(card);
    const job = {
      isUrgent: () => isOnScreen(card.element),
      run: (signal) => this.#caption(card, signal),
      wait: (error, seconds) => this.#postpone(card, error, seconds),
      fail: (error) => this.#fail(card, error),
    };
    this.#jobs.set(card, job);
    card.setState("waiting", "Waiting …");
    this.#queue.add(job);
  }

  /** Stop the work on a card; return whether there was any. */
  #stop(card) {
    const job = this.#jobs.get(card);
    if (job) this.#queue.remove(job);
    return this.#jobs.delete(card);
  }

  async #caption(card, signal) {
    const { values } = this.#settings;
    card.begin(values.prompt);
    for await (const event of this.#server.caption(card.file, values, signal)) {
      if (event.type === "text") card.addText(event);
      if (event.type === "caption") {
        this.#jobs.delete(card);
        this.#onTrouble(null);
        const summary = `${this.#countDone() + 1} of ${this.cards.length} captions done`;
        card.finish(event.caption, summary);
      }
    }
  }

  /** Return the heat-maps of a caption, or null if the server has none for any. */
  async #explain(file, caption, prompt) {
    const { features } = await this.#loadInfo();
    if (!features.heat_maps) return null;
    const method = features.gradient ? "gradient" : "attention";
    const fields = prompt === undefined ? { caption, method } : { caption, method, prompt };
    return this.#server.explain(file, fields);
  }

  #postpone(card, error, seconds) {
    const isBusy = error.status === 429 || error.type === "queue_full";
    if (!isBusy) this.#onTrouble(error);
    const reason = isBusy ? "The server is busy" : "The server does not answer";
    card.setState("waiting", `${reason}; trying again in ${Math.ceil(seconds)} s …`);
  }

  #fail(card, error) {
    this.#jobs.delete(card);
    if (!(error instanceof ServerError)) {
      card.fail(`The page failed (${error.message}). Load it again.`, true);
      throw error;
    }
    if (this.#settings.has(error.param)) {
      const message = this.#settings.nameFields(error.message);
      this.#settings.showProblem(message, error.param);
      card.fail(`The settings do not work: ${message}`, true);
    } else if (REFUSED.has(error.type)) {
      card.refuse(error.message);
    } else card.fail(ADVICE[error.type] ?? error.message, true);
  }

  #countDone() {
    return this.cards.filter((card) => !card.isBusy).length;
  }

  #render() {
    const isEmpty = this.cards.length === 0;
    show(isEmpty, find("empty"));
    show(!isEmpty, find("gallery"));
    document.body.classList.toggle("is-empty", isEmpty);
    document.body.classList.toggle("is-single", this.cards.length === 1);
    this.#showProgress();
  }

  #showProgress() {
    const [done, total] = [this.#countDone(), this.cards.length];
    const images = total === 1 ? "1 image" : `${total} images`;
    find("progress").textContent = done < total ? `${done} of ${images} done` : images;
  }
}

function isOnScreen(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}
