// The settings, whose changes are followed at once. Exports: Settings.

import { show } from "./dom.js";

const PAUSE = 400; // milliseconds without a change, until it counts
const SHOWN = 60; // characters of a prompt that is told
const SAMPLING = ["temperature", "top_p", "top_k", "seed"];
const SEARCH = ["num_beams"];
const HINTS = {
  false: "Finds a caption that is likely as a whole.",
  true: "Draws words at random, likely ones more often."
};

export class Settings {
  #form;
  #defaults = {};
  #limits = {};
  #last = {};
  #onChange;
  #timer = 0;

  /** onChange(description) is called after a change, such as "Beams 3 → 5". */
  constructor(form, onChange) {
    this.#form = form;
    this.#onChange = onChange;
    form.addEventListener("input", (event) => this.#note(event.target));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Take defaults and limits from GET /v1/info. */
  use({ defaults, limits, prompt, max_positions: positions }) {
    this.#limits = limits;
    this.#defaults = { style: "plain", ...defaults, prompt };
    show("style" in defaults, this.#form.querySelector("[data-field=style]"));
    const longest = Math.min(limits.max_length, positions);
    for (const name of ["max_length", "min_length"]) this.#form[name].max = longest;
    const { num_beams: beams } = this.#form;
    beams.max = Math.min(limits.max_candidates, Math.max(beams.max, defaults.num_beams));
    this.#write(this.#defaults);
    this.#last = this.#read();
  }

  /** Return the settings that differ from the defaults, as the API takes them. */
  get values() {
    const values = this.#read();
    const unused = new Set(values.sample ? SEARCH : SAMPLING);
    const isSent = ([name, value]) => !unused.has(name) && value !== this.#defaults[name];
    return Object.fromEntries(Object.entries(values).filter(isSent));
  }

  /** Return whether there is a setting of this name. */
  has(name) {
    return this.#fields().some((field) => field.name === name);
  }

  /** Go back to the defaults. */
  reset() {
    this.#write(this.#defaults);
    this.#settle("Back to the defaults");
  }

  /** Draw another seed. */
  changeSeed() {
    this.#form.seed.value = crypto.getRandomValues(new Uint32Array(1))[0] % 100_000;
    this.#note(this.#form.seed);
  }

  /** Return a message of the server with the names that settings have on the page. */
  nameFields(message) {
    return message.replace(/\b[a-z]+_[a-z]+\b/g, (name) => {
      const label = this.#readLabel(name);
      return label ? `“${label}”` : name;
    });
  }

  #readLabel(name) {
    return this.#form.querySelector(`label[for=${name}]`)?.textContent;
  }

  /** Show what the server says about a setting; "" for nothing. */
  showProblem(message, name = null) {
    const problem = document.getElementById("settings-problem");
    problem.textContent = message;
    show(message !== "", problem);
    for (const field of this.#fields()) {
      if (field.name === name) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
  }

  #fields() {
    return [...this.#form.elements].filter((element) => element.name);
  }

  #read() {
    const values = {};
    for (const { name, type, value, checked } of this.#fields()) {
      if (type === "range" || type === "number") {
        values[name] = value === "" ? this.#defaults[name] : Number(value);
      } else if (type === "checkbox") values[name] = checked ? value : "plain";
      else if (type === "radio") values[name] = this.#form.sample.value === "true";
      else values[name] = value;
    }
    return values;
  }

  #write(values) {
    for (const field of this.#fields()) {
      const value = values[field.name];
      if (field.type === "radio") field.checked = field.value === String(value);
      else if (field.type === "checkbox") field.checked = field.value === value;
      else field.value = value;
    }
    this.#render();
  }

  #note(field) {
    this.#balance(field.name);
    this.#render();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#settle(), PAUSE);
  }

  /** Let a setting push those that must not be above or below it. */
  #balance(name) {
    const { num_beams: beams, num_captions: captions } = this.#form;
    const pairs = [[this.#form.min_length, this.#form.max_length]];
    if (!this.#read().sample) pairs.push([captions, beams]);
    for (const [low, high] of pairs) {
      if (Number(low.value) <= Number(high.value)) continue;
      if (name === high.name) low.value = high.value;
      else high.value = low.value;
    }
    const most = this.#limits.max_candidates ?? Infinity;
    const [moved, other] = name === "num_captions" ? [captions, beams] : [beams, captions];
    if (moved.value * other.value > most) other.value = Math.floor(most / moved.value);
  }

  #render() {
    const { sample } = this.#read();
    for (const output of this.#form.querySelectorAll("output")) {
      output.textContent = this.#form[output.htmlFor.value].value;
    }
    const rows = (names) => names.map((name) => this.#form.querySelector(`[data-field=${name}]`));
    show(sample, ...rows(SAMPLING), this.#form.querySelector(".pair"));
    show(!sample, ...rows(SEARCH));
    document.getElementById("sample-hint").textContent = HINTS[sample];
    const changed = this.values;
    for (const row of this.#form.querySelectorAll("[data-field]")) {
      row.classList.toggle("is-changed", row.dataset.field in changed);
    }
    const isChanged = Object.keys(changed).length > 0;
    document.getElementById("reset").disabled = !isChanged;
    show(isChanged, document.getElementById("is-changed"));
  }

  #settle(description = this.#describe()) {
    clearTimeout(this.#timer);
    const values = this.#read();
    const isSame = JSON.stringify(values) === JSON.stringify(this.#last);
    this.#last = values;
    if (isSame) return;
    this.showProblem("");
    this.#onChange(description);
  }

  /** Return what has changed since the last time. */
  #describe() {
    const values = this.#read();
    const names = Object.keys(values).filter((name) => values[name] !== this.#last[name]);
    if (names.length > 2) return `${names.length} settings changed`;
    return names.map((name) => this.#describeOne(name, this.#last[name], values[name])).join(", ");
  }

  #describeOne(name, before, after) {
    if (name === "sample") return after ? "Sampling" : "Beam search";
    if (name === "style") return after === "alt" ? "Alt text" : "Plain captions";
    if (name === "prompt") return after.trim() ? `Prompt “${shorten(after.trim())}”` : "No prompt";
    return `${this.#readLabel(name)} ${before} → ${after}`;
  }
}

function shorten(text) {
  const characters = [...text];
  return characters.length <= SHOWN ? text : `${characters.slice(0, SHOWN).join("").trim()} …`;
}
