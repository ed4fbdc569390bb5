/* A gallery: cards are made a few at a time, as the reader scrolls. */

const CHUNK = 60;

function formatNumber(number, column) {
  if (number === null || number === undefined) return "–";
  const text = Math.abs(number).toFixed(column.decimals);
  const isZero = Number(text) === 0;
  const sign = number < 0 && !isZero ? "−" : column.signed && !isZero ? "+" : "";
  return sign + text;
}

function makeRuns(runs) {
  return runs.map(([text, kind]) => {
    if (!kind) return document.createTextNode(text);
    const tag = { added: "ins", removed: "del" }[kind] ?? "mark";
    return make(tag, { className: kind }, text);
  });
}

/* A long label has a line of its own. */
function makeLabel(label) {
  const className = label.length > 16 ? "whose long" : "whose";
  return label ? [make("span", { className }, label), " "] : [];
}

function makeLines(card) {
  return card.lines.map(([label, runs]) => (
    make("p", { className: "caption" }, ...makeLabel(label), ...makeRuns(runs))));
}

function makeShownReferences(gallery, card) {
  const references = (card.references ?? []).slice(0, gallery.numReferences);
  return references.map((text) => make("p", { className: "reference" },
    make("span", { className: "whose" }, "reference"), " ", text));
}

function makeNumbers(gallery, card) {
  const items = gallery.columns.map((column, index) => make("div", {},
    make("dt", {}, column.name),
    make("dd", {}, formatNumber(card.numbers?.[index], column))));
  return items.length ? [make("dl", { className: "numbers" }, ...items)] : [];
}

function makeTags(gallery, card) {
  const tags = (card.tags ?? []).map((index) => {
    const [name, tone] = gallery.tags[index];
    return make("span", { className: `tag ${tone}` }, name);
  });
  return tags.length ? [make("p", { className: "card-tags" }, ...tags)] : [];
}

function makeImage(card, alt) {
  const source = thumbnails[card.image];
  if (source) return make("img", { src: source, alt, loading: "lazy", decoding: "async" });
  const text = card.image === -1 ? "no image" : "The image cannot be read.";
  return make("span", { className: "no-image" }, text);
}

function makeCard(gallery, card, open) {
  const caption = card.lines.map(([, runs]) => runs.map(([t]) => t).join("")).join(" / ");
  const button = make("button", {
    type: "button", className: "open", "aria-label": `Enlarge: ${caption || card.name || "image"}`,
  }, makeImage(card, ""));
  button.addEventListener("click", () => open(card));
  const note = card.note ? [make("p", { className: "note" }, card.note)] : [];
  const text = make("div", { className: "text" },
    ...makeLines(card), ...makeShownReferences(gallery, card), ...note,
    ...makeTags(gallery, card), ...makeNumbers(gallery, card));
  return make("li", { className: "card" }, button, text);
}

function startGallery(root) {
  const gallery = readJson(root);
  const status = make("p", { className: "found", role: "status" });
  const list = make("ul", { className: "cards" });
  const end = make("div", { className: "end-of-cards" });
  let chosen = [];

  function open(card) {
    enlarge(gallery, chosen, chosen.indexOf(card));
  }
  function addCards() {
    const next = chosen.slice(list.children.length, list.children.length + CHUNK);
    list.append(...next.map((card) => makeCard(gallery, card, open)));
  }
  function show(choice) {
    chosen = sortCards(gallery, filterCards(gallery, choice), choice.order);
    list.replaceChildren();
    addCards();
    status.textContent = describeCount(chosen.length, gallery.cards.length, gallery.noun);
  }

  const controls = makeControls(gallery, show);
  const found = make("div", { className: "found-bar" }, status, controls.clear);
  root.append(controls.bar, found, list, end);
  new IntersectionObserver((entries) => {
    // The observer tells only of changes: what still fits on the screen is added at once.
    if (!entries.some((entry) => entry.isIntersecting)) return;
    do addCards();
    while (list.children.length < chosen.length
      && end.getBoundingClientRect().top < 2 * innerHeight);
  }, { rootMargin: "100% 0px" }).observe(end);
  controls.set({ order: gallery.sort ?? [-1, ""], tags: new Set(gallery.showTags) });
  if (gallery.cards.length < 2) controls.bar.hidden = found.hidden = true;
  return { root, gallery, controls };
}

/* Buttons elsewhere on the page that show the images with a tag. */
function startTagButtons(galleries) {
  for (const button of document.querySelectorAll("[data-show-tag]")) {
    const tag = button.dataset.showTag;
    const found = galleries.find(({ gallery }) => gallery.tags.some(([name]) => name === tag));
    if (!found) {
      button.hidden = true;
      continue;
    }
    const index = found.gallery.tags.findIndex(([name]) => name === tag);
    button.addEventListener("click", () => {
      found.controls.set({ ...NO_FILTERS, tags: new Set([index]) });
      found.root.scrollIntoView({ block: "start" });
      found.root.querySelector(".open")?.focus({ preventScroll: true });
    });
  }
}
