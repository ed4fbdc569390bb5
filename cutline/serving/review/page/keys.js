// Keys of the page. Exports: listenToKeys.

const SETTING = "cutline-review-single-keys";
const KEYS = {
  Enter: "accept", a: "accept", e: "edit", x: "reject", Delete: "reject", z: "undo", r: "propose",
  f: "open-replace", "/": "filter", "?": "open-help",
  ArrowRight: "next", ArrowDown: "next", j: "next",
  ArrowLeft: "previous", ArrowUp: "previous", k: "previous",
};
const MOVES = new Set(["next", "previous"]); // which may repeat while a key is held
const FIELDS = "input, textarea, select";
const PRESSED = "button, a, summary, [role=option]"; // which Enter presses itself

/** Call actions by their names; `take(place)` for digits. */
export function listenToKeys(actions) {
  const box = document.getElementById("single-keys");
  box.checked = localStorage.getItem(SETTING) !== "off";
  box.addEventListener("change", () => {
    localStorage.setItem(SETTING, box.checked ? "on" : "off");
  });
  document.addEventListener("keydown", (event) => {
    const name = findAction(event, actions, box.checked);
    if (!name) return;
    event.preventDefault();
    if (name === "take") actions.take(Number(event.key) - 1);
    else actions[name](event);
  });
}

function findAction(event, actions, hasSingleKeys) {
  const { key, target } = event;
  if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return "";
  if (target.id === "editor") return findInEditor(event);
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && key === "z") {
    return target.matches(FIELDS) ? "" : "undo";
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return "";
  if (key === "Escape") {
    return actions.isEditing() && !target.matches(FIELDS) ? "leave" : "closeList";
  }
  if (target.matches(FIELDS) || actions.isEditing()) return "";
  if (key === "Enter" && target.closest(PRESSED)) return "";
  if (!hasSingleKeys && key.length === 1) return "";
  if (/^[1-9]$/.test(key)) return event.repeat ? "" : "take";
  const name = KEYS[key.length === 1 ? key.toLowerCase() : key];
  return event.repeat && !MOVES.has(name) ? "" : name;
}

function findInEditor({ key, shiftKey, repeat }) {
  if (key === "Escape") return "leave";
  return key === "Enter" && !shiftKey && !repeat ? "keep" : "";
}
