/** Where pictures are dropped, chosen or pasted, with the shelf beneath. */

import { button, icon, make, speak } from "./dom.js";
import { SHELF, shelfUrl } from "./pictures.js";
import { bytes } from "./words.js";

const ROLES = {
  photo: { title: "Photograph", symbol: "photo", ask: "Choose a photograph", more: "Choose another" },
  style: { title: "Painting", symbol: "brush", ask: "Choose a painting", more: "Add a painting" },
};

const NO_PREVIEW = "No preview in this browser";

class Well {
  #depth = 0;

  constructor(role, pictures) {
    this.role = role;
    this.pictures = pictures;
    this.words = ROLES[role];
    this.input = make("input", { type: "file", accept: "image/*,.heic,.tif,.tiff,.npy", class: "file", id: `file-${role}`,
      multiple: role === "style", "aria-describedby": `well-${role}-error`,
      on: { change: () => this.#take(this.input.files) } });
    this.ask = make("span", {});
    this.label = make("label", { class: "choose", for: this.input.id }, icon(this.words.symbol), this.ask,
      make("small", { text: "or drop, or paste it here" }));
    this.shown = make("div", { class: "chosen-pictures" });
    this.error = make("p", { class: "error", id: `well-${role}-error` });
    this.drop = make("div", { class: "well" }, this.shown, this.input, this.label);
    this.shelf = SHELF[role].map(([name, label]) =>
      button("", { kind: "sample", "aria-label": `Example: ${label}`, title: label }, () => pictures.take(role, name, label)));
    this.shelf.forEach((sample, at) => sample.append(
      make("img", { src: shelfUrl(SHELF[role][at][0]), alt: "", width: 72, height: 54 })));
    this.weights = make("div", { class: "weights" });
    this.element = make("section", { class: `side ${role}`, "aria-labelledby": `well-${role}` },
      make("h2", { id: `well-${role}`, text: this.words.title }), this.drop, this.error, this.weights,
      make("div", { class: "shelf" }, make("span", { text: "Examples" }), ...this.shelf));
    this.#listen();
  }

  #take(files) {
    const count = this.pictures.add(this.role, files);
    this.complain(count || !files.length ? null : "Expected a picture; try JPEG or PNG.");
    if (count) speak(`${this.words.title} chosen`);
    this.input.value = "";
  }

  #listen() {
    const on = (type, handler) => this.drop.addEventListener(type, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      handler(event);
    });
    const light = (change) => {
      this.#depth = change ? this.#depth + change : 0;
      this.drop.classList.toggle("over", this.#depth > 0);
    };
    on("dragenter", () => light(1));
    on("dragleave", () => light(-1));
    on("dragover", (event) => (event.dataTransfer.dropEffect = "copy"));
    on("drop", (event) => {
      light(0);
      this.#take(event.dataTransfer.files);
    });
  }

  complain(detail) {
    this.error.textContent = detail ?? "";
    if (detail) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  #figure(chosen, at, isAlone) {
    const picture = make("img", { src: chosen.url, alt: `${this.words.title}: ${chosen.label}` });
    const figure = make("figure", {}, picture);
    picture.addEventListener("error", () => {
      picture.replaceWith(make("p", { class: "unseen" }, icon("photo"), make("span", { text: chosen.label }),
        make("small", { text: `${bytes(chosen.file.size)}. ${NO_PREVIEW}.` })));
    });
    const name = isAlone ? this.words.title.toLowerCase() : `painting ${at + 1}`;
    figure.append(button("", { symbol: "close", label: `Remove ${name}`, kind: "remove" }, () => {
      this.pictures.remove(this.role, at);
      this.input.focus();
    }));
    return figure;
  }

  #weight(style, at) {
    const id = `weight-${at}`;
    const box = make("input", { type: "number", id, min: 0, step: "any", value: style.weight });
    box.addEventListener("input", () => (style.weight = Number(box.value) || 0));
    const parts = [make("label", { for: id, text: `Painting ${at + 1}, share` }), box];
    if (this.pictures.regions) {
      const region = make("input", { type: "text", value: style.region, placeholder: "all other", "aria-label": `Colour of painting ${at + 1} on the map` });
      region.addEventListener("input", () => (style.region = region.value));
      parts.push(region);
    }
    return make("div", { class: "weight" }, ...parts);
  }

  #mask(style, at, isAlone) {
    const id = `style-mask-${at}`;
    const input = make("input", { type: "file", accept: "image/*", id, title: "White is what counts of it." });
    if (style.mask) {
      const files = new DataTransfer();
      files.items.add(style.mask);
      input.files = files.files;
    }
    input.addEventListener("change", () => (style.mask = input.files[0] ?? null));
    return make("div", { class: "weight mask" }, make("label", { for: id, text: isAlone ? "Mask of the painting" : `Painting ${at + 1}, mask` }), input);
  }

  show() {
    const all = this.role === "photo" ? [this.pictures.photo].filter(Boolean) : this.pictures.styles;
    this.drop.classList.toggle("full", all.length > 0);
    this.shown.dataset.count = all.length;
    this.shown.replaceChildren(...all.map((chosen, at) => this.#figure(chosen, at, all.length === 1)));
    this.ask.textContent = all.length ? this.words.more : this.words.ask;
    this.shelf.forEach((sample, at) => sample.setAttribute("aria-pressed", String(all.some(({ shelf }) => shelf === SHELF[this.role][at][0]))));
    const weighs = this.role === "style" && (all.length > 1 || this.pictures.regions);
    const masks = this.role === "style" ? all.map((style, at) => this.#mask(style, at, all.length === 1)) : [];
    this.weights.replaceChildren(...masks.flatMap((mask, at) => (weighs ? [this.#weight(all[at], at), mask] : [mask])));
    if (all.length) this.complain(null);
  }
}

/** Build both wells; returns what tells of pictures that are missing. */
export function makeWells(root, pictures) {
  const wells = { content: new Well("photo", pictures), style: new Well("style", pictures) };
  root.replaceChildren(wells.content.element, wells.style.element);
  const show = () => Object.values(wells).forEach((well) => well.show());
  pictures.addEventListener("change", show);
  show();
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length && pictures.add(null, files)) {
      event.preventDefault();
      speak("Picture pasted");
    }
  });
  // A picture that misses a well shall not take the page away: it is what is still missing.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    if (!event.defaultPrevented && document.body.dataset.view === "new") pictures.add(null, event.dataTransfer.files);
    event.preventDefault();
  });
  return {
    /** Whether both are there; else says what is missing, at its place. */
    check() {
      const missing = !pictures.photo ? wells.content : !pictures.styles.length ? wells.style : null;
      if (!pictures.photo) wells.content.complain("Choose a photograph, or take an example.");
      if (!pictures.styles.length) wells.style.complain("Choose a painting, or take an example.");
      missing?.input.focus();
      return !missing;
    },
    /** Show an error of the service's at the well that is to blame; returns whether it is one. */
    complain(setting, detail) {
      const well = wells[setting];
      well?.complain(detail);
      well?.input.focus();
      return Boolean(well);
    },
  };
}
