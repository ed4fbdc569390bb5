// Writes captions as `cutline caption -o` does. Exports: makeRow, toJsonl, toCsv, toSidecars, save.
//
// A row has image, id and caption, then, unless somebody has edited it, score, confidence and
// alternatives.

import { makeZip } from "./zip.js";

const FORBIDDEN = /[\u0000-\u001f<>:"|?*\\]/g; // in a name on some system
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
const MOST_FILES = 65535; // in a zip without extensions

/** Return the row of an image. */
export function makeRow({ name, id, text, edited, shown, caption }) {
  const row = { image: name, id, caption: text };
  if (edited !== null) return { ...row, edited: true };
  const describe = (each) => ({ caption: each.text, ...measure(each) });
  const alternatives = caption.alternatives.map(describe);
  return { ...row, ...measure(shown), ...(alternatives.length > 1 && { alternatives }) };
}

function measure({ score, confidence }) {
  return { score: round(score), confidence: round(confidence) };
}

function round(value) {
  return value === null ? null : Number(value.toFixed(6)); // JSON has no infinity
}

/** Return one row of JSON per line. */
export function toJsonl(rows) {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

/** Return a table with quotes around all but numbers; a list is JSON. */
export function toCsv(rows) {
  const columns = [...new Set(["image", "id", "caption", ...rows.flatMap(Object.keys)])];
  const lines = rows.map((row) => columns.map((column) => toCell(row[column])));
  return [columns.map(toCell), ...lines].map((cells) => `${cells.join(",")}\n`).join("");
}

function toCell(given) {
  const value = given ?? "";
  if (typeof value === "number") return String(value);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `"${text.replaceAll('"', '""')}"`;
}

/** Return a zip with a text file per row: `a.txt` for `a.jpg`. */
export function toSidecars(rows) {
  if (rows.length > MOST_FILES) throw new RangeError("too many images for one zip");
  const names = nameSidecars(rows.map((row) => row.id));
  return makeZip(rows.map((row, index) => [names[index], `${row.caption}\n`]));
}

/** Return a safe path for each id; two that would have the same one keep their extensions. */
function nameSidecars(ids) {
  const paths = ids.map(cleanPath);
  const stems = paths.map((path) => path.replace(/(?<=[^/])\.[^./]+$/, ""));
  const isUnique = (name, list) => list.filter((each) => sameName(each, name)).length === 1;
  const taken = new Set();
  return paths.map((path, index) => {
    const base = isUnique(stems[index], stems) ? stems[index] : path;
    let name = `${base}.txt`;
    for (let number = 2; taken.has(name.toLowerCase()); number += 1) {
      name = `${base} (${number}).txt`;
    }
    taken.add(name.toLowerCase()); // a file system may not tell A from a
    return name;
  });
}

function sameName(first, second) {
  return first.toLowerCase() === second.toLowerCase();
}

function cleanPath(id) {
  const names = id.normalize("NFC").split(/[/\\]/).filter((name) => !["", "."].includes(name));
  return names.map(cleanName).join("/") || "_";
}

function cleanName(name) {
  const clean = name === ".." ? "_" : name.replace(FORBIDDEN, "_").replace(/[. ]+$/, "_");
  return (RESERVED.test(clean) ? `_${clean}` : clean).slice(0, 120);
}

/** Let the browser save a text or a blob. */
export function save(content, name, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // once it has surely been read
}
