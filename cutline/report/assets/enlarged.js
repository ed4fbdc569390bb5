/* An image of a gallery, enlarged, with all that is known of it. */

const dialog = document.querySelector(".enlarged");
let shown = null;

function makeReferences(gallery, card) {
  if (!card.references?.length) return [];
  const items = card.references.map((text) => make("li", {}, text));
  return [make("h3", {}, gallery.referenceHeading), make("ul", { className: "references" }, ...items)];
}

function showEnlarged() {
  const { gallery, cards, index } = shown;
  const card = cards[index];
  const find = (selector) => dialog.querySelector(selector);
  find("h2").textContent = card.name ?? "";
  find(".place").textContent = `${index + 1} of ${cards.length}`;
  const file = find(".file");
  file.hidden = !card.link;
  if (card.link) file.href = card.link;
  else file.removeAttribute("href");
  const alt = card.lines.map(([, runs]) => runs.map(([t]) => t).join("")).join(" / ");
  find(".enlarged-image").replaceChildren(makeImage(card, alt));
  const note = card.note ? [make("p", { className: "note" }, card.note)] : [];
  find(".enlarged-text").replaceChildren(
    ...makeLines(card), ...note, ...makeTags(gallery, card), ...makeNumbers(gallery, card),
    ...makeReferences(gallery, card),
  );
  find(".previous").disabled = index === 0;
  find(".next").disabled = index === cards.length - 1;
}

function enlarge(gallery, cards, index) {
  shown = { gallery, cards, index };
  showEnlarged();
  dialog.showModal();
  dialog.querySelector(".close").focus();
}

function move(step) {
  const index = shown.index + step;
  if (index < 0 || index >= shown.cards.length) return;
  shown.index = index;
  showEnlarged();
}

function startEnlarged() {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.querySelector(".previous").addEventListener("click", () => move(-1));
  dialog.querySelector(".next").addEventListener("click", () => move(1));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) move(step);
  });
}
