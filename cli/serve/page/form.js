/** The form: what is chosen differently from a preset, and what the service says of it. */

import { FIELDS, MAIN, MORE, PRESET } from "./fields.js";
import { button, make, speak } from "./dom.js";
import { makeControl } from "./controls.js";

export class Form extends EventTarget {
  #chosen = new Map();
  #controls = new Map();
  #limits;
  #presets;

  /** Build the form of a service's presets and limits into an element. */
  constructor(root, presets, service) {
    super();
    this.root = root;
    this.#presets = presets;
    this.#limits = service.limits;
    const offered = { preset: service.presets, format: service.formats, colors: service.colors, init: service.inits };
    for (const field of FIELDS) this.#add(field, offered[field.name]);
    const element = (field) => this.#controls.get(field.name).element;
    this.submit = button("Make picture", { kind: "primary wide", type: "submit" });
    this.summary = make("p", { class: "summary" });
    this.general = make("p", { class: "error general", role: "alert" });
    this.more = make("details", { class: "more" },
      make("summary", { text: "More settings" }),
      ...MORE.map((group) => make("section", {}, make("h3", { text: group.title }), ...group.fields.map(element))));
    root.replaceChildren(
      make("div", { class: "fields" }, make("h2", { text: "Settings" }), ...[PRESET, ...MAIN].map(element), this.more),
      make("div", { class: "send" }, this.general, this.submit, this.summary));
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.dispatchEvent(new Event("send"));
    });
    this.#show();
  }

  #add(field, offered) {
    const known = (item) => offered.includes(Array.isArray(item) ? item[0] : item.value);
    const shown = offered && field.items ? { ...field, items: field.items.filter(known) } : field;
    this.#controls.set(field.name, makeControl(shown, (value, isTyping) => this.#choose(field, value, isTyping)));
  }

  #choose(field, value, isTyping = false) {
    if (value === undefined || (value === this.#usual(field) && !isTyping)) this.#chosen.delete(field.name);
    else this.#chosen.set(field.name, value);
    if (field.name === "size") {
      for (const side of ["width", "height"]) this.#chosen.delete(side);
    }
    if ((field.name === "width" || field.name === "height") && value !== undefined) this.#chosen.delete("size");
    this.#controls.get(field.name).complain(null);
    this.general.textContent = "";
    this.#show(isTyping ? field.name : null);
  }

  get #preset() {
    return this.#presets[this.#chosen.get("preset") ?? "default"] ?? {};
  }

  #usual({ name, kind, fallback }) {
    if (name === "preset") return "default";
    if (name === "format") return "png";
    if (name === "style_scale") return 1;
    const value = this.#preset[name] ?? fallback;
    if (name === "steps") return Math.min(value, this.#limits.max_steps);
    return kind === "number" ? (value ?? undefined) : value;
  }

  #show(but = null) {
    for (const control of this.#controls.values()) {
      const { field } = control;
      const usual = this.#usual(field);
      const isExact = field.name === "size" && (this.#chosen.has("width") || this.#chosen.has("height"));
      if (field.name !== but) control.show(isExact ? null : (this.#chosen.get(field.name) ?? usual), usual);
      control.mark(this.#chosen.has(field.name));
    }
    const value = (name) => this.#chosen.get(name) ?? this.#usual(FIELDS.find((field) => field.name === name));
    const sides = ["width", "height"].map((name) => this.#chosen.get(name) ?? "…");
    const size = this.#chosen.has("width") || this.#chosen.has("height") ? `${sides.join(" × ")} px` : `${value("size")} px`;
    const steps = value("colors") === "only" ? "no steps" : `${value("steps")} steps`;
    this.summary.textContent = `${size}, ${steps}, ${value("format")}`;
  }

  /** What is asked for, as the options of a job. */
  options() {
    const options = Object.fromEntries(this.#chosen);
    if (!("steps" in options) && this.#preset.steps > this.#limits.max_steps) options.steps = this.#limits.max_steps;
    return options;
  }

  /** Show the options of a job. */
  fill(options) {
    this.clear();
    this.#chosen = new Map(Object.entries(options).filter(([name, value]) => this.#controls.has(name) && value !== null));
    this.more.open = MORE.some((group) => group.fields.some((field) => this.#chosen.has(field.name)));
    this.#show();
  }

  /** Take back all that was complained of. */
  clear() {
    for (const control of this.#controls.values()) control.complain(null);
    this.general.textContent = "";
  }

  /** Show an error beside the field that is to blame, if it is one of these; or else by the button. */
  complain(detail, setting = null) {
    const control = this.#controls.get(setting);
    if (!control) {
      this.general.textContent = detail;
      return;
    }
    control.complain(detail);
    if (this.more.contains(control.element)) this.more.open = true;
    control.inputs.find((input) => input.type !== "radio" || input.checked)?.focus();
    speak(`${control.field.label}: ${detail}`);
  }

  /** Show whether a form is on its way. */
  set isBusy(isBusy) {
    this.submit.disabled = isBusy;
    this.submit.classList.toggle("busy", isBusy);
    this.submit.lastChild.textContent = isBusy ? "Sending" : "Make picture";
  }
}
