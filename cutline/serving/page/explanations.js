// Shows where the model looked for the word that is pointed at. Exports: ExplanationView, findMap.

import { percent } from "./caption.js";
import { HeatMap } from "./heatmap.js";

const POINTING_TIME = 120; // milliseconds, so that crossing a caption asks for nothing

/** A heat-map to lay over an image, and a line about the word. */
export class ExplanationView {
  #map = new HeatMap();
  #load;
  #write;
  #cache = new Map();
  #caption = { text: "", words: [], prompt: undefined, line: "" };
  #index = null;
  #timer = 0;

  /**
   * load(text, prompt) returns a promise of the answer of POST /v1/explanations, or of null.
   * write(line) shows a line.
   */
  constructor(load, write) {
    this.#load = load;
    this.#write = write;
  }

  get canvas() {
    return this.#map.canvas;
  }

  /** Take a caption: its text and words, its prompt, and the line without a word. */
  setCaption(caption) {
    this.point(null);
    this.#caption = caption;
    this.#write(caption.line);
  }

  /** Show a word, given its index, or none, given null. */
  point(index) {
    clearTimeout(this.#timer);
    const was = this.#index;
    this.#index = index;
    if (index === null) {
      this.#map.show(null);
      if (was !== null) this.#write(this.#caption.line);
      return;
    }
    const { text, confidence } = this.#caption.words[index];
    const line = confidence === undefined ? text : `${text} · ${percent(confidence)} sure`;
    this.#write(line);
    this.#timer = setTimeout(() => this.#showMap(index, line), POINTING_TIME);
  }

  async #showMap(index, line) {
    const { text, words, prompt } = this.#caption;
    const isCurrent = () => this.#index === index && this.#caption.text === text;
    const slow = setTimeout(() => { if (isCurrent()) this.#write(`${line} · looking …`); }, 250);
    try {
      const explanation = await this.#fetch(text, prompt);
      if (!isCurrent()) return;
      const map = explanation && findMap(explanation, words, index);
      this.#map.show(map);
      this.#write(map || !explanation ? line : `${line} · no heat-map for this word`);
    } catch (error) {
      if (isCurrent()) this.#write(`${line} · no heat-map: ${error.message}`);
    } finally {
      clearTimeout(slow);
    }
  }

  /** Ask once per caption; a failure is forgotten. */
  #fetch(text, prompt) {
    const key = JSON.stringify([text, prompt]);
    if (!this.#cache.has(key)) {
      const promise = this.#load(text, prompt);
      this.#cache.set(key, promise);
      promise.catch(() => this.#cache.delete(key));
    }
    return this.#cache.get(key);
  }
}

/**
 * Return the map of a word of the shown caption, or null.
 *
 * The server may divide an edited caption into other words than the page does; then the nearest
 * one with the same letters counts.
 */
export function findMap(explanation, words, index) {
  const found = explanation.words;
  if (found.length === words.length) return found[index].map;
  const wanted = words[index].text.toLowerCase();
  const expected = (index / words.length) * found.length;
  const distance = (word) => Math.abs(found.indexOf(word) - expected);
  const same = found.filter((word) => word.text.toLowerCase() === wanted);
  return same.sort((first, second) => distance(first) - distance(second))[0]?.map ?? null;
}
