/* Starts all parts of the page; a page with `data-refresh` loads itself again. */

const PLACE = `cutline-place-${location.pathname}`;

/* Keeps where the reader is, and what is chosen, for the page that replaces this one. */
function savePlace(galleries) {
  const choices = galleries.map(({ controls }) => {
    const choice = controls.read();
    return { ...choice, tags: [...choice.tags] };
  });
  store("sessionStorage", PLACE, JSON.stringify({ top: scrollY, choices }));
}

function restorePlace(galleries) {
  const saved = store("sessionStorage", PLACE);
  if (!saved) return;
  store("sessionStorage", PLACE, "");
  let place = {};
  try {
    place = JSON.parse(saved);
  } catch { /* another program's value */ }
  const { top = 0, choices = [] } = place ?? {};
  galleries.forEach(({ controls }, index) => {
    const choice = choices[index];
    if (choice) controls.set({ ...choice, tags: new Set(choice.tags) });
  });
  scrollTo({ top, behavior: "instant" });
}

function startRefresh(galleries) {
  const seconds = Number(document.body.dataset.refresh);
  if (!seconds) return;
  setInterval(() => {
    if (dialog.open || document.hidden) return;
    savePlace(galleries);
    location.reload();
  }, 1000 * seconds);
}

document.querySelector(".no-script").remove();
startTheme();
startImages();
document.querySelectorAll("table").forEach(startTable);
document.querySelectorAll(".plot").forEach(startChart);
document.querySelectorAll(".word-maps figure").forEach(startWordMaps);
document.querySelectorAll(".word-maps").forEach(startWordMapSearch);
startEnlarged();
const galleries = [...document.querySelectorAll(".gallery")].map(startGallery);
startTagButtons(galleries);
restorePlace(galleries);
startRefresh(galleries);
