/** Controls: each is made from a field of fields.js, shows a value, and tells of one that is chosen. */

import { button, make } from "./dom.js";
import { number } from "./words.js";

const POSITIONS = 400;

function cards(field, id, choose) {
  const inputs = field.items.map((item) => {
    const input = make("input", { type: "radio", name: id, value: item.value, on: { change: () => choose(item.value) } });
    return { item, input };
  });
  const list = make("div", { class: "cards" }, ...inputs.map(({ item, input }) =>
    make("label", { class: "card", title: item.text }, input,
      make("img", { src: item.picture, alt: "", width: 96, height: 72, loading: "lazy" }),
      make("span", { class: "card-label", text: item.label }))));
  const says = make("p", { class: "hint chosen", id: `${id}-hint` });
  const element = make("fieldset", { class: "field", "aria-describedby": `${id}-hint ${id}-error` },
    make("legend", { text: field.label }), list, says);
  return { element, inputs: inputs.map(({ input }) => input), show(value) {
    for (const { item, input } of inputs) {
      input.checked = item.value === value;
      if (input.checked) says.textContent = item.text;
    }
  } };
}

const tidy = (value, field) => (field.whole ? Math.round(value) : Number(value.toPrecision(2)));

function range(field, base) {
  return field.around ? [base / field.around, base * field.around] : [field.min, field.max];
}

/** A slider on a logarithmic scale, with a number beside it. */
function scale(field, id, choose) {
  let base = 1;
  const place = (value) => {
    const [least, most] = range(field, base);
    if (field.zero && value < least) return 0;
    const share = Math.log(Math.max(value, least) / least) / Math.log(most / least);
    return Math.round(Math.min(1, share) * (POSITIONS - 1)) + 1;
  };
  const value = (position) => {
    const [least, most] = range(field, base);
    if (field.zero && position === 0) return 0;
    return tidy(least * (most / least) ** ((position - 1) / (POSITIONS - 1)), field);
  };
  const box = make("input", { type: "number", id, step: "any", min: 0, "aria-describedby": `${id}-hint ${id}-error` });
  const slider = make("input", { type: "range", min: field.zero ? 0 : 1, max: POSITIONS, step: 1, "aria-labelledby": `${id}-label` });
  const paint = () => {
    const least = Number(slider.min);
    slider.style.setProperty("--filled", `${((slider.value - least) / (POSITIONS - least)) * 100}%`);
    slider.setAttribute("aria-valuetext", number(Number(box.value)));
  };
  slider.addEventListener("input", () => {
    box.value = value(Number(slider.value));
    paint();
    choose(Number(box.value));
  });
  box.addEventListener("input", () => {
    if (box.value === "") return choose(undefined, true);
    slider.value = place(Number(box.value));
    paint();
    choose(Number(box.value));
  });
  const end = (name, word) =>
    make("span", { class: "end" }, name ? make("img", { src: `/page/looks/${name}.jpg`, alt: "", width: 64, height: 48, loading: "lazy" }) : null,
      make("span", { text: word }));
  const [low, high] = field.ends ?? [];
  const element = make("div", { class: "field scale" },
    make("div", { class: "head" }, make("label", { for: id, id: `${id}-label`, text: field.label }), box),
    make("div", { class: field.ends ? "slide with-pictures" : "slide" }, end(low, field.words[0]), slider, end(high, field.words[1])),
    make("p", { class: "hint", id: `${id}-hint`, text: field.text }));
  return { element, inputs: [box], show(shown, preset) {
    base = preset || 1;
    box.value = shown;
    slider.value = place(shown);
    paint();
  } };
}

function sizes(field, id, choose) {
  const box = make("input", { type: "number", id, min: 16, step: 1, "aria-describedby": `${id}-hint ${id}-error` });
  box.addEventListener("input", () => (box.value === "" ? choose(undefined, true) : choose(Number(box.value))));
  const chips = field.items.map((size) =>
    button(String(size), { kind: "chip", "aria-label": `${size} pixels` }, () => {
      box.value = size;
      choose(size);
    }));
  const mark = (value) => chips.forEach((chip, at) => chip.setAttribute("aria-pressed", String(field.items[at] === value)));
  const element = make("div", { class: "field" },
    make("div", { class: "head" }, make("label", { for: id, text: field.label }), box, make("span", { class: "unit", text: "px" })),
    make("div", { class: "chips", role: "group", "aria-label": "Usual sizes" }, ...chips),
    make("p", { class: "hint", id: `${id}-hint`, text: field.text }));
  return { element, inputs: [box], show(value) {
    box.value = value ?? "";
    mark(value);
  } };
}

function plain(field, id, input, write) {
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  const element = make("div", { class: "field row" },
    make("label", { for: id, text: field.label }), input, make("p", { class: "hint", id: `${id}-hint`, text: field.text }));
  return { element, inputs: [input], show: write };
}

function choice(field, id, choose) {
  const options = field.items.map(([value, label]) => make("option", { value, text: label }));
  const input = make("select", {}, ...options);
  input.addEventListener("change", () => choose(input.value === "" ? undefined : field.whole ? Number(input.value) : input.value));
  return plain(field, id, input, (value) => (input.value = value ?? ""));
}

function numeric(field, id, choose) {
  const input = make("input", { type: "number", step: field.whole ? 1 : "any", min: 0 });
  input.addEventListener("input", () => choose(input.value === "" ? undefined : Number(input.value), true));
  return plain(field, id, input, (value) => (input.value = value ?? ""));
}

function text(field, id, choose) {
  const input = make("input", { type: "text", spellcheck: "false", autocomplete: "off", placeholder: field.example });
  input.addEventListener("input", () => choose(input.value.trim() || undefined, true));
  return plain(field, id, input, (value) => (input.value = value ?? ""));
}

function flag(field, id, choose) {
  const input = make("input", { type: "checkbox", class: "switch", role: "switch" });
  input.addEventListener("change", () => choose(input.checked ? (field.on ?? true) : field.on ? undefined : false));
  return plain(field, id, input, (value) => (input.checked = Boolean(value)));
}

const KINDS = { cards, scale, sizes, choice, number: numeric, text, flag };

/**
 * Make the control of a field. `choose(value, typing)` is called with what is chosen; undefined is
 * what the preset has, and `typing` says that the control shall be left as it is.
 */
export function makeControl(field, choose) {
  const id = `field-${field.name}`;
  const control = KINDS[field.kind](field, id, choose);
  const error = make("p", { class: "error", id: `${id}-error` });
  const reset = button("Reset", { kind: "reset", "aria-label": `Reset ${field.label}`, hidden: true }, () => {
    choose(undefined);
    control.inputs.find((input) => input.type !== "radio" || input.checked)?.focus();
  });
  control.element.append(error);
  (control.element.querySelector(".head") ?? control.element).append(reset);
  return { ...control, field, complain(detail) {
    error.textContent = detail ?? "";
    for (const input of control.inputs) {
      if (detail) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
  }, mark(isChanged) {
    reset.hidden = !isChanged;
    control.element.classList.toggle("changed", isChanged);
  } };
}
