/* Elements, stored choices, light and dark. */

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function readJson(parent) {
  return JSON.parse(parent.querySelector('script[type="application/json"]').textContent);
}

/* A choice that outlives the page; pages that are files may have no storage. */
function store(storage, name, value) {
  try {
    if (value === undefined) return window[storage].getItem(name);
    window[storage].setItem(name, value);
  } catch { /* nothing is kept */ }
  return null;
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  document.querySelector(".theme").textContent = isDark() ? "Light" : "Dark";
}

function startTheme() {
  const button = document.querySelector(".theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    store("localStorage", "cutline-theme", theme);
    setTheme(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());
  setTheme(store("localStorage", "cutline-theme"));
}

const thumbnails = JSON.parse(document.getElementById("thumbnails").textContent);

function startImages() {
  for (const image of document.querySelectorAll("[data-image]")) {
    const source = thumbnails[image.dataset.image];
    if (source) image.src = source;
    else image.remove();
  }
}
