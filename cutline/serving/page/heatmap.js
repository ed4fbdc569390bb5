// Draws where the model looked. Exports: HeatMap, smoothMap.
//
// The same Gaussians and colors as `cutline explain`: what a captioner knows of an object is in
// the patches around it, too, so that the maximum of their sum is on the object.

const SIZE = 160; // pixels; CSS stretches the square to the image, as the model squeezes it
const SMOOTHING = 0.8; // patches
const MAX_ALPHA = 0.8;
const DURATION = 220; // milliseconds from one map to the next
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];
const COLORS = makeColors();

/** A canvas that shows one map after another, and moves between them. */
export class HeatMap {
  #values = new Float32Array(SIZE * SIZE);
  #frame = 0;

  constructor() {
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = SIZE;
    this.canvas.className = "heat-map";
    this.canvas.ariaHidden = "true"; // its word is read out instead
  }

  /** Show a map, rows of columns; null shows none. */
  show(map) {
    this.canvas.classList.toggle("is-shown", map !== null);
    if (map === null) return;
    cancelAnimationFrame(this.#frame);
    const target = smoothMap(map, SIZE);
    const first = this.#values;
    const start = performance.now();
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now) => {
      const time = isStill ? 1 : Math.min(1, Math.max(0, (now - start) / DURATION));
      const share = 1 - (1 - time) ** 3;
      this.#values = target.map((value, index) => first[index] + share * (value - first[index]));
      this.#draw();
      if (time < 1) this.#frame = requestAnimationFrame(step);
    };
    step(start);
  }

  #draw() {
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(SIZE, SIZE);
    const pixels = new Uint32Array(image.data.buffer);
    this.#values.forEach((value, index) => { pixels[index] = COLORS[Math.round(255 * value)]; });
    context.putImageData(image, 0, 0);
  }
}

/** Return a map as size * size values from 0 to 1, smoothed; the maximum is 1. */
export function smoothMap(map, size) {
  const across = weighPatches(size, map[0].length);
  const down = weighPatches(size, map.length);
  const rows = map.map((row) => across.map((weights) => dot(weights, row)));
  const values = new Float32Array(size * size);
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      let sum = 0;
      for (let row = 0; row < rows.length; row += 1) sum += down[y][row] * rows[row][x];
      values[y * size + x] = sum;
    }
  }
  const peak = values.reduce((most, value) => Math.max(most, value), 0);
  return peak > 0 ? values.map((value) => value / peak) : values;
}

/** Return the Gaussian of each patch along a side, at each pixel. */
function weighPatches(numPixels, numPatches) {
  return Array.from({ length: numPixels }, (_, pixel) => {
    const position = ((pixel + 0.5) * numPatches) / numPixels;
    const distances = Array.from({ length: numPatches }, (_, patch) => position - patch - 0.5);
    return distances.map((distance) => Math.exp(-((distance / SMOOTHING) ** 2) / 2));
  });
}

function dot(first, second) {
  return first.reduce((sum, value, index) => sum + value * second[index], 0);
}

/** Return 256 colors as the pixels of a canvas; the first is transparent. */
function makeColors() {
  const colors = new Uint32Array(256);
  const bytes = new Uint8ClampedArray(colors.buffer);
  for (let level = 0; level < 256; level += 1) {
    const position = (level / 255) * (INFERNO.length - 1);
    const below = Math.min(INFERNO.length - 2, Math.floor(position));
    for (let channel = 0; channel < 3; channel += 1) {
      const [low, high] = [INFERNO[below][channel], INFERNO[below + 1][channel]];
      bytes[4 * level + channel] = low + (position - below) * (high - low);
    }
    bytes[4 * level + 3] = level * MAX_ALPHA;
  }
  return colors;
}
