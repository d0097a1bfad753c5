/** The picture on the stage: the photograph beneath it, a divider between them, zoom and pan. */

import { Camera } from "./camera.js";
import { button, icon, isCalm, make } from "./dom.js";
import { bindGestures } from "./gestures.js";

const FACTOR = 1.25;

/** An image that shows one file after another, without a gap between them. */
class Layer {
  #url = null;
  #latest = 0;

  constructor(name, alt) {
    this.element = make("img", { class: `layer ${name}`, alt, draggable: "false", hidden: true });
  }

  async show(blob) {
    const turn = ++this.#latest;
    const url = URL.createObjectURL(blob);
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
    } catch {
      URL.revokeObjectURL(url);
      return null;
    }
    if (turn !== this.#latest) {
      URL.revokeObjectURL(url); // a later one was quicker, or none is wanted any more
      return null;
    }
    this.element.src = url;
    this.element.hidden = false;
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = url;
    return { width: image.naturalWidth, height: image.naturalHeight };
  }

  clear() {
    this.#latest += 1;
    this.element.hidden = true;
    this.element.removeAttribute("src");
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }
}

export class Viewer {
  #split = 0;
  #size = null;

  constructor() {
    this.camera = new Camera(() => this.#place());
    this.before = new Layer("before", "The photograph");
    this.after = new Layer("after", "The picture");
    this.world = make("div", { class: "world" }, this.before.element, this.after.element);
    this.handle = make("div", { class: "divider", role: "slider", tabindex: 0, "aria-label": "Divider: photograph on its left, picture on its right",
      "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, make("span", { class: "grip" }, icon("arrows")));
    this.tags = make("div", { class: "tags", "aria-hidden": "true" }, make("span", { text: "Photograph" }), make("span", { text: "Picture" }));
    this.empty = make("div", { class: "wait" });
    this.surface = make("div", { class: "surface", tabindex: 0, role: "group", "aria-label": "Picture; plus and minus zoom, 0 fits, arrows move it" }, this.world, this.tags, this.empty);
    this.percent = make("output", { class: "percent" });
    this.bar = this.#makeBar();
    this.element = make("div", { class: "viewer" }, this.surface, this.handle, this.bar);
    bindGestures(this.surface, this.camera);
    this.#bindKeys();
    this.#bindDivider();
    new ResizeObserver(() => this.measure()).observe(this.surface);
  }

  #makeBar() {
    const { camera } = this;
    const zoom = (factor) => () => camera.zoom(camera.scale * factor);
    this.compare = button("Compare", { symbol: "split", kind: "tool compare", "aria-pressed": "false" }, () => this.slide(this.#split > 0 ? 0 : 50));
    return make("div", { class: "zoom-bar", role: "toolbar", "aria-label": "View" }, this.compare,
      make("span", { class: "gap" }),
      button("", { symbol: "minus", label: "Smaller", kind: "tool" }, zoom(1 / FACTOR)), this.percent,
      button("", { symbol: "plus", label: "Larger", kind: "tool" }, zoom(FACTOR)),
      button("Fit", { kind: "tool" }, () => camera.fit()),
      button("100 %", { kind: "tool" }, () => camera.zoom(camera.actual)),
      button("200 %", { kind: "tool large" }, () => camera.zoom(2 * camera.actual)));
  }

  #bindKeys() {
    const { camera } = this;
    const step = 48;
    const keys = {
      "+": () => camera.zoom(camera.scale * FACTOR), "=": () => camera.zoom(camera.scale * FACTOR), "-": () => camera.zoom(camera.scale / FACTOR),
      0: () => camera.fit(), 1: () => camera.zoom(camera.actual), 2: () => camera.zoom(2 * camera.actual),
      ArrowLeft: () => camera.pan(step, 0), ArrowRight: () => camera.pan(-step, 0), ArrowUp: () => camera.pan(0, step), ArrowDown: () => camera.pan(0, -step),
    };
    this.surface.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  #bindDivider() {
    this.handle.addEventListener("keydown", (event) => {
      const by = event.shiftKey ? 10 : 2;
      const to = { ArrowLeft: this.#split - by, ArrowDown: this.#split - by, ArrowRight: this.#split + by, ArrowUp: this.#split + by,
        PageDown: this.#split - 10, PageUp: this.#split + 10, Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.slide(to);
    });
    this.handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.handle.focus({ preventScroll: true });
      this.handle.setPointerCapture(event.pointerId);
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (!this.handle.hasPointerCapture(event.pointerId)) return;
      const x = event.clientX - this.surface.getBoundingClientRect().left;
      this.slide((100 * (x - this.camera.x)) / (this.camera.picture.width * this.camera.scale));
    });
  }

  /** Put the divider at a share of the picture's width, in percent; 0 shows the picture alone. */
  slide(percent) {
    this.#split = Math.min(100, Math.max(0, percent));
    this.#place();
  }

  /** Move the divider to the middle, for all to see what there is to compare. */
  reveal() {
    const began = performance.now();
    if (this.#split > 0 || this.before.element.hidden) return;
    if (isCalm()) return this.slide(50);
    const move = (now) => {
      const share = Math.min(1, (now - began) / 700);
      this.slide(50 * (1 - (1 - share) ** 3));
      if (share < 1) requestAnimationFrame(move);
    };
    requestAnimationFrame(move);
  }

  #place() {
    const { camera, world, handle } = this;
    const width = camera.picture.width * camera.scale;
    world.style.width = `${camera.picture.width}px`;
    world.style.height = `${camera.picture.height}px`;
    world.style.transform = `translate(${camera.x}px, ${camera.y}px) scale(${camera.scale})`;
    this.after.element.style.clipPath = `inset(0 0 0 ${this.#split}%)`;
    const canCompare = !this.before.element.hidden && !this.after.element.hidden;
    handle.hidden = this.bar.hidden = !canCompare && this.after.element.hidden;
    handle.hidden ||= !canCompare;
    this.compare.hidden = !canCompare;
    const x = Math.min(camera.box.width, Math.max(0, camera.x + (width * this.#split) / 100));
    handle.style.transform = `translateX(${x}px)`;
    handle.style.setProperty("--inwards", `${Math.max(0, 24 - x) - Math.max(0, x + 24 - camera.box.width)}px`);
    handle.setAttribute("aria-valuenow", Math.round(this.#split));
    handle.setAttribute("aria-valuetext", `${Math.round(this.#split)} % photograph`);
    this.compare.setAttribute("aria-pressed", String(this.#split > 0));
    this.tags.hidden = !canCompare || this.#split <= 0;
    this.percent.textContent = `${Math.round(camera.scale * devicePixelRatio * 100)} %`;
    this.element.classList.toggle("blank", this.before.element.hidden && this.after.element.hidden);
    this.surface.classList.toggle("free", !camera.isFitted && camera.scale > camera.fitting);
    this.surface.classList.toggle("pixels", camera.scale * devicePixelRatio >= 3);
  }

  /** Take the box's size anew. */
  measure() {
    const { clientWidth: width, clientHeight: height } = this.surface;
    this.camera.margin = width > 500 ? 24 : 0;
    if (width && height) this.camera.resize({ box: { width, height } });
  }

  /** Begin with another job; its size, where it is known, is that of its picture. */
  reset(size) {
    this.before.clear();
    this.after.clear();
    this.#split = 0;
    this.#size = size;
    this.camera.isFitted = true;
    if (size) this.camera.resize({ picture: size });
    this.wait("");
    this.#place();
  }

  /** Say what there is in place of a picture. */
  wait(text, kind = "") {
    this.empty.textContent = text;
    this.empty.className = `wait ${kind}`;
    this.empty.hidden = !text;
  }

  /** Whether that is said. */
  get isWaiting() {
    return !this.empty.hidden;
  }

  async #show(layer, blob) {
    const natural = await layer.show(blob);
    if (!natural) return false;
    const size = this.#size ?? natural;
    if (size.width !== this.camera.picture.width || size.height !== this.camera.picture.height) this.camera.resize({ picture: size });
    this.wait("");
    this.#place();
    return true;
  }

  /** Show the photograph. */
  showBefore(blob) {
    return this.#show(this.before, blob);
  }

  /** Show the picture; of the size of its result where that is known. */
  showAfter(blob, size = this.#size) {
    this.#size = size;
    return this.#show(this.after, blob);
  }
}
