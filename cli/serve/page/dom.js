/** Elements: all text is set as text, so that nothing from a server or a file is read as markup. */

const SVG = "http://www.w3.org/2000/svg";

function put(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "on") {
      for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    } else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make an element of HTML: `make("p", {class: "hint", text: "…"}, …children)`. */
export function make(tag, properties = {}, ...children) {
  return put(document.createElement(tag), properties, children);
}

/** Make an element of SVG. */
export function draw(tag, properties = {}, ...children) {
  return put(document.createElementNS(SVG, tag), properties, children);
}

/** An icon of icons.svg, which is read out by no one. */
export function icon(name) {
  return draw("svg", { class: "icon", "aria-hidden": "true" }, draw("use", { href: `/page/icons.svg#${name}` }));
}

/** A button; with `label`, of an icon alone. */
export function button(text, { symbol, label, kind = "", ...properties } = {}, click) {
  return make(
    "button",
    { type: "button", class: kind, "aria-label": label, title: label, on: click ? { click } : {}, ...properties },
    symbol ? icon(symbol) : null,
    text ? make("span", { text }) : null,
  );
}

/** Find an element by its id. */
export const byId = (id) => document.getElementById(id);

/** Say something to those who hear the page. */
export function speak(text) {
  byId("spoken").textContent = text;
}

/** Whether little shall move. */
export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
