// The list of captions: as many as there are, of which only the visible ones are loaded.
// Exports: RowList, SIGNS.

import { percent } from "../static/caption.js";
import { make } from "../static/dom.js";
import { imageUrl } from "./api.js";

const PAGE = 50; // rows that are loaded together
const SPARE = 6; // rows above and below those that are visible
const MAX_HEIGHT = 8_000_000; // pixels; browsers have a limit

export const SIGNS = { "not reviewed": "", accepted: "✓", edited: "✎", rejected: "✕" };

export class RowList {
  #box;
  #sheet;
  #load;
  #pages = new Map(); // promises of rows, by the number of the page
  #rows = new Map(); // rows that are there, by their place
  #elements = new Map();
  #view = 0;
  #index = -1;
  #height = 64;
  count = 0;

  /**
   * load(view, start, count) returns a promise of rows.
   * pick(index): a row was clicked
   */
  constructor(box, load, pick) {
    this.#box = box;
    this.#sheet = box.firstElementChild;
    this.#load = load;
    box.addEventListener("scroll", () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(box);
    box.addEventListener("click", (event) => {
      const element = event.target.closest(".row");
      if (element) pick(Number(element.dataset.index));
    });
  }

  /** Show another view. */
  open(view, count) {
    this.#view = view;
    this.count = count;
    this.#index = -1;
    this.#pages.clear();
    this.#rows.clear();
    this.#sheet.replaceChildren();
    this.#elements.clear();
    this.#height = 4 * parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.#sheet.style.height = `${Math.min(count * this.#height, MAX_HEIGHT)}px`;
    this.#draw();
  }

  /** Return a promise of the row at a place; null if it is not there any more. */
  async find(index) {
    await this.#loadPage(Math.floor(index / PAGE));
    return this.#rows.get(index) ?? null;
  }

  /** Mark the row at a place, and scroll to it. */
  select(index) {
    this.#index = index;
    const top = this.#top(index);
    const { scrollTop, clientHeight } = this.#box;
    if (top < scrollTop + this.#height) {
      this.#box.scrollTop = top - this.#height;
    } else if (top > scrollTop + clientHeight - 2 * this.#height) {
      this.#box.scrollTop = top - clientHeight + 2 * this.#height;
    }
    this.#draw();
  }

  /** Show rows as they are now. */
  update(rows) {
    const changed = new Map(rows.map((row) => [row.row, row]));
    for (const [index, row] of this.#rows) {
      if (!row || !changed.has(row.row)) continue;
      this.#rows.set(index, changed.get(row.row));
      this.#remove(index);
    }
    this.#draw();
  }

  /** Load all rows again when they are needed, because many have changed. */
  reload() {
    this.#pages.clear();
    for (const index of [...this.#elements.keys()]) this.#remove(index);
    this.#rows.clear();
    this.#draw();
  }

  /** Where a row is; beyond the limit of browsers, the list is denser than its rows. */
  #top(index) {
    const full = this.count * this.#height;
    const room = Math.min(full, MAX_HEIGHT) - this.#height;
    return full <= MAX_HEIGHT ? index * this.#height : (index / (this.count - 1)) * room;
  }

  #draw() {
    if (!this.count) {
      this.#box.removeAttribute("aria-activedescendant");
      return;
    }
    const step = this.count > 1 ? this.#top(1) : this.#height;
    const first = Math.floor(this.#box.scrollTop / step) - SPARE;
    const last = first + Math.ceil(this.#box.clientHeight / this.#height) + 2 * SPARE;
    const shown = new Set();
    for (let index = Math.max(0, first); index <= Math.min(this.count - 1, last); index += 1) {
      shown.add(index);
    }
    for (const index of [...this.#elements.keys()]) if (!shown.has(index)) this.#remove(index);
    for (const index of shown) this.#show(index, first, step);
    const current = this.#elements.get(this.#index);
    if (current) this.#box.setAttribute("aria-activedescendant", current.id);
    else this.#box.removeAttribute("aria-activedescendant");
  }

  #show(index, first, step) {
    const row = this.#rows.get(index);
    if (!row) this.#loadPage(Math.floor(index / PAGE)).then(() => this.#draw(), () => {});
    if (!this.#elements.has(index)) {
      const element = makeRow(index, row, this.count);
      if (!row) element.dataset.isBlank = "";
      this.#elements.set(index, element);
      const isAfter = (other) => Number(other.dataset.index) > index;
      // In order for screen readers, too.
      this.#sheet.insertBefore(element, [...this.#sheet.children].find(isAfter) ?? null);
    } else if (row && "isBlank" in this.#elements.get(index).dataset) {
      this.#remove(index);
      this.#show(index, first, step);
      return;
    }
    const element = this.#elements.get(index);
    const top = step < this.#height
      ? Math.max(0, first) * step + (index - Math.max(0, first)) * this.#height
      : index * this.#height;
    element.style.transform = `translateY(${top}px)`;
    element.ariaSelected = String(index === this.#index);
  }

  #remove(index) {
    this.#elements.get(index)?.remove();
    this.#elements.delete(index);
  }

  #loadPage(page) {
    if (!this.#pages.has(page)) {
      const view = this.#view;
      const promise = this.#load(view, page * PAGE, PAGE).then((rows) => {
        if (view !== this.#view) return;
        rows.forEach((row, number) => this.#rows.set(page * PAGE + number, row));
      });
      promise.catch(() => this.#pages.delete(page));
      this.#pages.set(page, promise);
    }
    return this.#pages.get(page);
  }
}

function makeRow(index, row, count) {
  const element = make("div", { className: "row", role: "option", id: `row-${index}` });
  element.dataset.index = index;
  element.setAttribute("aria-setsize", count);
  element.setAttribute("aria-posinset", index + 1);
  if (!row) {
    element.append(make("span", { className: "blank" }), make("span", { className: "text" }));
    return element;
  }
  element.dataset.state = row.state;
  const sign = make("span", { className: "sign", "aria-hidden": "true" });
  sign.textContent = row.changed_outside ? "!" : SIGNS[row.state];
  const sure = row.confidence === null || !row.text || row.original !== null ? "" : percent(row.confidence);
  const text = make("span", { className: "text", dir: "auto", textContent: row.text || "no caption" });
  if (!row.text) text.classList.add("none");
  element.ariaLabel = [row.text || "no caption", row.state, sure && `${sure} sure`]
    .filter(Boolean).join(", ");
  const src = imageUrl(row.row, "small");
  const image = make("img", { src, alt: "", loading: "lazy", decoding: "async" });
  image.onerror = () => image.replaceWith(make("span", { className: "blank" })); // the stage says why
  element.append(
    image,
    text,
    make("span", { className: "end" }, sign, make("span", { textContent: sure })),
  );
  return element;
}
