// Takes files that are chosen, photographed, pasted or dropped. Exports: listenToFiles.

import { collectFiles } from "./images.js";

/** Call onFiles(files) whenever somebody gives files to the page. */
export function listenToFiles(onFiles) {
  const give = (files) => { if (files.length) onFiles(files); };
  for (const id of ["files", "camera"]) {
    document.getElementById(id).addEventListener("change", ({ target }) => {
      give([...target.files]);
      target.value = ""; // so that the same file can be chosen again
    });
  }
  addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    give([...event.clipboardData.files].map(nameFile));
  });
  listenToDrops(give);
}

/** A screen shot comes without a name of its own: give it the time. */
function nameFile(file) {
  if (file.name !== "image.png") return file;
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
  return new File([file], `Pasted ${time}.png`, { type: file.type });
}

function listenToDrops(give) {
  let depth = 0; // an event comes from each element on the way
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("is-dragging", depth > 0);
  };
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (hasFiles(event)) mark(1); });
  addEventListener("dragleave", (event) => { if (hasFiles(event)) mark(-1); });
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // or the browser would leave the page to show the file
    mark(-depth);
    give(await collectFiles(event.dataTransfer));
  });
}
