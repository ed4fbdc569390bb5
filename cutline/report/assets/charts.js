/* Charts that tell the values under the pointer, or at a position that the arrow keys choose. */

const tip = document.querySelector(".tip");

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - width - 14 : x + 14;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
}

function findNearest(readouts, x) {
  let nearest = 0;
  readouts.forEach(([position], index) => {
    if (Math.abs(position - x) < Math.abs(readouts[nearest][0] - x)) nearest = index;
  });
  return nearest;
}

function startChart(plot) {
  if (!plot.querySelector("script")) return;
  const readouts = readJson(plot);
  const svg = plot.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const title = plot.closest("figure").querySelector("figcaption").firstChild.textContent.trim();
  const slider = make("input", {
    type: "range", className: "unseen", min: 0, max: readouts.length - 1, value: 0,
    "aria-label": `Values of the chart ${title}`,
  });
  plot.append(slider);

  function scale() {
    return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  }
  function show(index, clientY) {
    const [x, text] = readouts[index];
    cursor.setAttribute("transform", `translate(${x} 0)`);
    cursor.classList.add("is-shown");
    slider.value = index;
    slider.setAttribute("aria-valuetext", text.replaceAll("\n", ", "));
    const box = svg.getBoundingClientRect();
    showTip(text, box.left + x * scale(), clientY ?? box.top + box.height / 3);
  }
  function hide() {
    cursor.classList.remove("is-shown");
    tip.hidden = true;
  }
  svg.addEventListener("pointermove", (event) => {
    const x = (event.clientX - svg.getBoundingClientRect().left) / scale();
    show(findNearest(readouts, x), event.clientY);
  });
  svg.addEventListener("pointerleave", hide);
  slider.addEventListener("input", () => show(Number(slider.value)));
  slider.addEventListener("focus", () => show(Number(slider.value)));
  slider.addEventListener("blur", hide);
}
