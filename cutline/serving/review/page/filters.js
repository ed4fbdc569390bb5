// The form that chooses rows. Exports: FilterForm, isNarrow.

const PAUSE = 250; // milliseconds after the last change
const find = (id) => document.getElementById(id);

export class FilterForm {
  #timer = 0;

  /** change(isOrder): another filter, or another order, was chosen. */
  constructor(change) {
    const form = find("filter");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      find("main").focus({ preventScroll: true }); // where single keys are steps
      clearTimeout(this.#timer);
      change(false);
    });
    form.addEventListener("input", (event) => {
      this.#label();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => change(event.target.id === "filter-order"), PAUSE);
    });
  }

  /** Return the filter as the server takes it. */
  read() {
    const shown = find("filter-show").value;
    const below = Number(find("filter-below").value);
    return {
      states: ["", "empty", "outside"].includes(shown) ? [] : [shown],
      is_empty: shown === "empty",
      changed_outside: shown === "outside",
      below: below < 100 ? below / 100 : null,
      text: find("filter-text").value,
      whole_words: find("filter-words").checked,
      match_case: false,
      order: find("filter-order").value,
    };
  }

  /** Show a filter; without one, all captions. */
  write({ states = [], is_empty = false, changed_outside = false, below = null, text = "",
    whole_words = false, order = "data" } = {}) {
    clearTimeout(this.#timer);
    const special = is_empty ? "empty" : changed_outside ? "outside" : "";
    find("filter-show").value = states[0] ?? special;
    find("filter-below").value = below === null ? 100 : Math.round(100 * below);
    find("filter-text").value = text;
    find("filter-words").checked = whole_words;
    find("filter-order").value = order;
    this.#label();
  }

  #label() {
    const below = Number(find("filter-below").value);
    const text = below < 100 ? `${below} %` : "any";
    find("below-value").textContent = text;
    find("filter-below").setAttribute("aria-valuetext", text);
  }
}

/** Return whether a filter leaves something out. */
export function isNarrow(filter) {
  return filter.states.length > 0 || filter.is_empty || filter.changed_outside
    || filter.below !== null || filter.text !== "";
}
