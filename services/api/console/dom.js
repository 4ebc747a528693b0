// Elements. Everything that comes from outside is put in as text; nothing here or elsewhere reads HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** An element with attributes (`text` is its text, `onclick` a listener) and children. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** The element of an id. */
export function at(id) {
  return document.getElementById(id);
}

/** Puts a text where it is not there yet, so that nothing is announced or drawn for nothing. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A cell of figures: aligned right, with digits of one width. */
export function num(text, more = {}) {
  const { class: further, ...rest } = more;
  return h("td", { ...rest, class: further ? `num ${further}` : "num", text });
}

/** A state in words, on its colour. */
export function badge(kind, text) {
  return h("span", { class: `badge ${kind}`, text });
}

/** A time: its clock time or day, and the whole of it on pointing at it. */
export function time(iso, text) {
  return iso ? h("time", { datetime: iso, title: iso, text }) : document.createTextNode("–");
}
