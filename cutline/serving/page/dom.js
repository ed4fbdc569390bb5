// Makes elements. Exports: make, show, nextId.
//
// Texts are always set as text, never as HTML: names of files and captions may contain anything.

let count = 0;

/** Return an id that no other element has. */
export function nextId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}

/**
 * Make an element.
 *
 * A property that begins with "on" is a listener, one with a hyphen or "role" an attribute; the
 * rest are properties of the element, such as className or textContent.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Show elements, or hide them. */
export function show(isShown, ...elements) {
  for (const element of elements) element.hidden = !isShown;
}
