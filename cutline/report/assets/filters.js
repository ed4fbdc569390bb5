/* The controls of a gallery, and which of its cards they choose, in which order. */

const ORDERS = { highest: "highest first", lowest: "lowest first", typical: "most typical first" };

const NO_FILTERS = { search: "", low: null, high: null, tags: new Set() };

function median(numbers) {
  const sorted = numbers.filter((number) => number !== null).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function splitWords(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

function describeCount(shown, all, noun) {
  const total = `${all.toLocaleString("en")} ${noun}`;
  return shown === all ? total : `${shown.toLocaleString("en")} of ${total}`;
}

/* What is searched of a card, in lower case. */
function searchText(card) {
  const lines = card.lines.map(([label, runs]) => `${label} ${runs.map(([t]) => t).join("")}`);
  const texts = [...lines, card.name, card.note, ...(card.references ?? [])];
  return texts.filter(Boolean).join("\n").toLowerCase();
}

/* Whether a card has a chosen tag of each group of which tags are chosen. */
function hasTags(gallery, card, chosen) {
  const groups = new Map();
  for (const tag of chosen) {
    const group = gallery.tagGroups[tag];
    groups.set(group, groups.get(group) || (card.tags ?? []).includes(tag));
  }
  return [...groups.values()].every(Boolean);
}

/* Cards that a search, tags and a range of a number choose. */
function filterCards(gallery, choice) {
  const words = splitWords(choice.search);
  return gallery.cards.filter((card) => {
    if (!hasTags(gallery, card, choice.tags)) return false;
    const number = card.numbers?.[choice.column] ?? null;
    if (choice.low !== null && (number === null || number < choice.low)) return false;
    if (choice.high !== null && (number === null || number > choice.high)) return false;
    card.searched ??= searchText(card);
    return words.every((word) => card.searched.includes(word));
  });
}

function sortCards(gallery, cards, [column, order]) {
  if (column < 0) return cards;
  const values = gallery.cards.map((card) => card.numbers?.[column] ?? null);
  const middle = order === "typical" ? median(values) : 0;
  const key = (card) => {
    const number = card.numbers?.[column] ?? null;
    if (number === null) return Infinity; // last in every order
    if (order === "typical") return Math.abs(number - middle);
    return order === "highest" ? -number : number;
  };
  return [...cards].sort((a, b) => key(a) - key(b));
}

function describeOrders(gallery) {
  const orders = [{ text: gallery.givenOrder, value: [-1, ""] }];
  gallery.columns.forEach((column, index) => {
    for (const [order, text] of Object.entries(ORDERS)) {
      orders.push({ text: `${column.name}, ${text}`, value: [index, order] });
    }
  });
  return orders;
}

function countTags(gallery) {
  const counts = gallery.tags.map(() => 0);
  for (const card of gallery.cards) for (const tag of card.tags ?? []) counts[tag] += 1;
  return counts;
}

function labeled(text, control, className = "") {
  return make("label", { className }, make("span", {}, text), control);
}

function makeNumberInput(name) {
  return make("input", { type: "number", step: "any", "aria-label": name });
}

/*
 * Makes the controls, and calls `onChange` with the choice whenever it changes. `read` returns the
 * choice, and `set` changes parts of it.
 */
function makeControls(gallery, onChange) {
  const search = make("input", { type: "search", autocomplete: "off", spellcheck: false });
  const orders = describeOrders(gallery);
  const order = make("select", {}, ...orders.map((each, i) => new Option(each.text, i)));
  const column = make("select", {}, ...gallery.columns.map((c, i) => new Option(c.name, i)));
  const [low, high] = [makeNumberInput("from"), makeNumberInput("to")];
  const clear = make("button", { type: "button", className: "clear" }, "Clear filters");
  const counts = countTags(gallery);
  const tags = gallery.tags.map(([name, tone], index) => make(
    "button", { type: "button", className: `tag ${tone}`, "aria-pressed": "false" },
    `${name} `, make("span", { className: "count" }, counts[index].toLocaleString("en")),
  ));

  function read() {
    const number = (input) => (input.value === "" ? null : Number(input.value));
    return {
      search: search.value,
      order: orders[order.value].value,
      column: Number(column.value || 0),
      low: number(low),
      high: number(high),
      tags: new Set(tags.flatMap((button, i) => (isPressed(button) ? [i] : []))),
    };
  }
  function isPressed(button) {
    return button.getAttribute("aria-pressed") === "true";
  }
  function set(values) {
    if (values.search !== undefined) search.value = values.search;
    if (values.order) {
      const index = orders.findIndex((each) => each.value.join() === values.order.join());
      order.value = Math.max(0, index);
    }
    if (values.column !== undefined) column.value = values.column;
    if (values.low !== undefined) low.value = values.low ?? "";
    if (values.high !== undefined) high.value = values.high ?? "";
    if (values.tags) {
      tags.forEach((button, i) => button.setAttribute("aria-pressed", values.tags.has(i)));
    }
    update();
  }
  function update() {
    const choice = read();
    const hasRange = choice.low !== null || choice.high !== null;
    clear.hidden = !choice.search && !choice.tags.size && !hasRange;
    onChange(choice);
  }
  for (const input of [search, low, high]) input.addEventListener("input", () => set({}));
  for (const select of [order, column]) select.addEventListener("change", () => set({}));
  tags.forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(!isPressed(button)));
    update();
  }));
  clear.addEventListener("click", () => {
    set(NO_FILTERS);
    search.focus(); // the button is hidden now
  });

  const bar = make("div", { className: "controls" }, labeled("Search", search, "search"));
  for (const group of new Set(gallery.tagGroups)) {
    const members = tags.filter((_, index) => gallery.tagGroups[index] === group);
    bar.append(make("div", { className: "tags", role: "group", "aria-label": "Show" }, ...members));
  }
  if (gallery.columns.length) {
    bar.append(
      make("div", { className: "range", role: "group", "aria-label": "Range" },
        labeled("Range of", column), low, make("span", {}, "to"), high),
      labeled("Order", order),
    );
  }
  return { bar, clear, set, read };
}
