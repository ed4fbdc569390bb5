/* Captions whose words show a heat-map over the image, by pointer, touch or focus. */

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
