/** The cost from step to step, on a logarithmic scale; a place on it can be read by pointer or arrow keys. */

import { draw, make } from "./dom.js";
import { number } from "./words.js";

const WIDTH = 320, HEIGHT = 148, LEFT = 44, RIGHT = 8, TOP = 10, BOTTOM = 22;
const MOST = 400; // points that are drawn

function ticks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const digit of [1, 2, 5]) all.push(digit * 10 ** power);
  }
  const inside = all.filter((value) => value >= low && value <= high);
  if (inside.length <= 4) return inside;
  const tens = inside.filter((value) => Math.abs(Math.log10(value) % 1) < 1e-9);
  const chosen = tens.length >= 2 ? tens : inside;
  const stride = Math.ceil(chosen.length / 4);
  return chosen.filter((_, at) => at % stride === 0);
}

export class Curve {
  #points = [];
  #steps = 1;
  #at = null;
  #due = false;

  constructor() {
    this.grid = draw("g", { class: "grid" });
    this.area = draw("path", { class: "area" });
    this.line = draw("path", { class: "line" });
    this.mark = draw("g", { class: "mark", visibility: "hidden" }, draw("line", {}), draw("circle", { r: 4 }));
    this.plot = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "slider", tabindex: 0, "aria-label": "Cost by step",
      "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": 0 }, this.grid, this.area, this.line, this.mark);
    this.reading = make("p", { class: "reading" });
    this.element = make("div", { class: "curve" }, this.plot, this.reading);
    this.plot.addEventListener("pointermove", (event) => this.#point(event));
    this.plot.addEventListener("pointerleave", () => this.#read(null));
    this.plot.addEventListener("blur", () => this.#read(null));
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    this.#render();
  }

  /** Begin anew, with the largest number of steps. */
  reset(steps) {
    this.#points = [];
    this.#steps = Math.max(1, steps ?? 1);
    this.#at = null;
    this.#soon();
  }

  /** Add the cost of a step; of one that was made twice, the later counts. */
  add({ step, steps, cost }) {
    if (!(cost > 0) || !Number.isFinite(cost)) return;
    while (this.#points.length && this.#points.at(-1).step >= step) this.#points.pop();
    this.#points.push({ step, cost });
    this.#steps = Math.max(1, steps ?? this.#steps);
    this.#soon();
  }

  get length() {
    return this.#points.length;
  }

  #soon() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#render();
    });
  }

  #x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / this.#steps;
  #y = (cost) => TOP + ((HEIGHT - TOP - BOTTOM) * (Math.log(this.high) - Math.log(cost))) / (Math.log(this.high) - Math.log(this.low));

  #render() {
    const costs = this.#points.map(({ cost }) => cost);
    this.low = costs.length ? Math.min(...costs) / 1.15 : 0.01;
    this.high = costs.length ? Math.max(...costs) * 1.15 : 1;
    const base = HEIGHT - BOTTOM;
    const across = (costs.length ? ticks(this.low, this.high) : []).flatMap((value) => [
      draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: this.#y(value), y2: this.#y(value) }),
      draw("text", { x: LEFT - 6, y: this.#y(value) + 3.5, "text-anchor": "end", text: number(value) })]);
    this.grid.replaceChildren(...across,
      draw("line", { class: "base", x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base }),
      draw("text", { x: LEFT, y: HEIGHT - 6, text: "0" }),
      draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end", text: `${this.#steps} steps` }));
    const stride = Math.ceil(this.#points.length / MOST);
    const drawn = this.#points.filter((_, at) => at % stride === 0 || at === this.#points.length - 1);
    const path = drawn.map(({ step, cost }) => `${this.#x(step).toFixed(1)},${this.#y(cost).toFixed(1)}`).join("L");
    this.line.setAttribute("d", path ? `M${path}` : "");
    this.area.setAttribute("d", path ? `M${this.#x(drawn[0].step)},${base}L${path}L${this.#x(drawn.at(-1).step)},${base}Z` : "");
    this.#read(this.#at);
  }

  #point(event) {
    if (!this.#points.length) return;
    const box = this.plot.getBoundingClientRect();
    const step = ((((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT)) * this.#steps;
    const far = this.#points.map((point) => Math.abs(point.step - step));
    this.#read(far.indexOf(Math.min(...far)));
  }

  #key(event) {
    const last = this.#points.length - 1;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
    if (!(event.key in moves) || last < 0) return;
    event.preventDefault();
    this.#read(Math.max(0, Math.min(last, (this.#at ?? last) + moves[event.key])));
  }

  #read(at) {
    this.#at = at !== null && at < this.#points.length ? at : null;
    const { step, cost } = this.#points[this.#at ?? this.#points.length - 1] ?? {};
    this.reading.textContent = step === undefined ? "The cost is drawn from the first step on." : `Step ${step}: cost ${number(cost)}`;
    this.plot.setAttribute("aria-valuenow", step ?? 0);
    this.plot.setAttribute("aria-valuemax", this.#steps);
    this.plot.setAttribute("aria-valuetext", this.reading.textContent);
    this.mark.setAttribute("visibility", step === undefined ? "hidden" : "visible");
    if (step === undefined) return;
    const [rule, dot] = this.mark.children;
    const x = this.#x(step), y = this.#y(cost);
    rule.setAttribute("visibility", this.#at === null ? "hidden" : "inherit");
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", TOP], ["y2", HEIGHT - BOTTOM]]) rule.setAttribute(name, value);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
  }
}
