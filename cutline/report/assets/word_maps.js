/* Captions whose words show a heat-map over the image, by pointer, touch or focus. */

function startWordMapSearch(root) {
  const figures = [...root.querySelectorAll("figure")];
  if (figures.length < 2) return;
  const texts = figures.map((figure) => figure.textContent.toLowerCase());
  const search = make("input", { type: "search", autocomplete: "off", spellcheck: false });
  const status = make("p", { className: "found", role: "status" });

  function show() {
    const words = splitWords(search.value);
    figures.forEach((figure, index) => {
      figure.hidden = !words.every((word) => texts[index].includes(word));
    });
    const count = figures.filter((figure) => !figure.hidden).length;
    status.textContent = describeCount(count, figures.length, "images");
  }
  search.addEventListener("input", show);
  const controls = make("div", { className: "controls" }, labeled("Search", search, "search"));
  root.before(controls, status);
  show();
}

function startWordMaps(figure) {
  const overlays = figure.querySelectorAll(".overlay");
  figure.querySelectorAll(".word").forEach((word, index) => {
    function show(isShown) {
      overlays.forEach((overlay, i) => overlay.classList.toggle("is-shown", isShown && i === index));
    }
    for (const name of ["pointerenter", "focus"]) word.addEventListener(name, () => show(true));
    for (const name of ["pointerleave", "blur"]) word.addEventListener(name, () => show(false));
  });
}
