// Find and replace, with a preview. Exports: ReplaceDialog.

import { make, show } from "../static/dom.js";
import { api, imageUrl } from "./api.js";

const PAUSE = 200; // milliseconds after the last key
const find = (id) => document.getElementById(id);

export class ReplaceDialog {
  #stamp = "";
  #timer = 0;
  #number = 0; // of the last preview, since answers may overtake each other
  #filter = {};

  /**
   * confirm(count) returns a promise of whether to replace captions that are somebody's own.
   * done(answer): captions were replaced
   */
  constructor(confirm, done) {
    this.confirm = confirm;
    this.done = done;
    const form = find("replace-form");
    form.addEventListener("input", () => {
      find("replace-all").disabled = true;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#preview(), PAUSE);
    });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.#replace(false); });
    find("replace-close").addEventListener("click", () => find("replace").close());
  }

  /** Open the dialog for the captions that a filter chooses. */
  open(filter, text) {
    this.#filter = filter;
    if (text) find("find-text").value = text;
    find("replace").showModal();
    find("find-text").select();
    this.#preview();
  }

  #read() {
    return {
      find: find("find-text").value,
      replace: find("replace-text").value,
      whole_words: find("find-words").checked,
      match_case: find("find-case").checked,
      filter: this.#filter,
    };
  }

  async #preview() {
    const body = this.#read();
    const number = this.#number += 1;
    if (!body.find) {
      this.#show({ count: 0, examples: [] }, body, "");
      return;
    }
    try {
      const plan = await api.previewReplacement(body);
      if (number === this.#number) this.#show(plan, body, describe(plan));
    } catch (error) {
      this.#complain(error.message);
    }
  }

  #show(plan, body, text) {
    this.#stamp = plan.stamp;
    find("replace-count").textContent = text;
    find("replace-all").disabled = plan.count === 0;
    find("replace-all").textContent = plan.count > 1 ? `Replace in ${plan.count.toLocaleString("en")}` : "Replace";
    find("replace-examples").replaceChildren(...plan.examples.map(makeExample));
    show(plan.examples.length > 0, find("replace-examples"));
    this.#complain("");
  }

  async #replace(isConfirmed) {
    try {
      const answer = await api.replace({ ...this.#read(), stamp: this.#stamp, confirm: isConfirmed });
      find("replace").close();
      this.done(answer);
    } catch (error) {
      if (error.type === "confirm" && !isConfirmed) {
        if (await this.confirm(error.count)) await this.#replace(true);
      } else if (error.type === "stale") {
        await this.#preview();
        this.#complain("The captions have changed meanwhile. This is what would be replaced now.");
      } else {
        this.#complain(error.message);
      }
    }
  }

  #complain(text) {
    find("replace-problem").textContent = text;
    show(text !== "", find("replace-problem"));
  }
}

function describe({ count, examples, emptied }) {
  const number = (value) => value.toLocaleString("en");
  const captions = count === 1 ? "1 caption would change" : `${number(count)} captions would change`;
  const shown = examples.length < count ? `; these are the first ${number(examples.length)}` : "";
  const empty = emptied ? ` ${number(emptied)} would be empty, and stay as they are.` : "";
  return count || emptied ? `${captions}${shown}.${empty}` : "No caption has this text.";
}

function makeExample({ row, old, new: text, spans }) {
  const characters = [...old]; // Python counts characters
  const parts = [];
  let end = 0;
  for (const [start, stop] of spans) {
    parts.push(characters.slice(end, start).join(""));
    parts.push(make("del", { textContent: characters.slice(start, stop).join("") }));
    end = stop;
  }
  parts.push(characters.slice(end).join(""));
  const image = make("img", { src: imageUrl(row, "small"), alt: "", loading: "lazy" });
  const after = make("p", { className: "new", dir: "auto", textContent: text });
  return make("li", {}, image, make("div", {}, make("p", { dir: "auto" }, ...parts), after));
}
