/** What is known of one job, beside its picture: how it goes, its cost, and what can be done. */

import { Curve } from "./curve.js";
import { button, icon, make } from "./dom.js";
import { describeOption } from "./fields.js";
import { bytes, isOver, number, seconds, standing } from "./words.js";

const STOPPED = { steps: "all steps made", converged: "nothing improved any more", cancelled: "canceled", canceled: "canceled" };

function facts(job) {
  const { result } = job;
  const rows = [];
  const size = result ?? job;
  if (size.width && size.height) rows.push(["Size", `${size.width} × ${size.height} px`]);
  if (result) {
    const why = STOPPED[result.stopped];
    if (result.steps !== null) rows.push(["Steps", why ? `${result.steps}, ${why}` : `${result.steps}`]);
    if (result.seconds) rows.push(["Time", seconds(result.seconds)]);
    const cost = result.cost?.total;
    if (cost !== undefined) {
      const share = result.initial_cost ? `, ${number((100 * cost) / result.initial_cost)} % of the start's` : "";
      rows.push(["Cost", `${number(cost)}${share}`]);
    }
    rows.push(["File", `${job.format.toUpperCase()}, ${bytes(result.bytes)}`]);
  }
  if (job.attempts > 1) rows.push(["Attempts", `${job.attempts}, taken up where it stopped`]);
  return rows;
}

const list = (rows) => rows.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value })));

export class Details {
  #id = null;

  /** Build them into an element; `acts` are what download, again and cancel do. */
  constructor(root, acts) {
    this.root = root;
    this.curve = new Curve();
    this.title = make("h1", { class: "standing", tabindex: -1 });
    this.percent = make("span", { class: "share" });
    this.progress = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.error = make("div", { class: "failure" });
    this.download = button("Download", { symbol: "download", kind: "primary wide" }, () => acts.download());
    this.again = button("Run again with changes", { symbol: "again", kind: "wide" }, () => acts.again());
    this.cancel = button("Cancel, keep the picture so far", { symbol: "stop", kind: "wide" }, () => acts.cancel());
    this.said = make("p", { class: "error", role: "alert" });
    this.facts = make("dl", { class: "facts" });
    this.options = make("dl", { class: "facts" });
    this.optionsTitle = make("h2", { text: "Settings" });
    this.costTitle = make("h2", { text: "Cost" });
    root.replaceChildren(
      make("div", { class: "head" }, this.title, this.percent), this.progress, this.error,
      make("div", { class: "actions" }, this.download, this.cancel, this.again), this.said,
      this.costTitle, this.curve.element,
      make("h2", { text: "Picture" }), this.facts, this.optionsTitle, this.options);
  }

  /** Show a job as it now stands. */
  show(job) {
    if (job.id !== this.#id) {
      this.#id = job.id;
      this.curve.reset(job.steps);
      this.said.textContent = "";
    }
    const share = job.progress && job.status === "running" ? job.progress.step / job.progress.steps : null;
    this.root.dataset.status = job.status;
    this.title.textContent = standing(job);
    this.percent.textContent = share === null ? "" : `${Math.floor(100 * share)} %`;
    this.progress.hidden = isOver(job);
    if (share === null) this.progress.removeAttribute("value");
    else this.progress.value = share;
    this.error.hidden = !job.error;
    if (job.error) this.error.replaceChildren(icon("alert"), make("p", { text: job.error.message }));
    this.download.hidden = !job.links.result;
    this.download.lastChild.textContent = job.result && !job.result.complete ? "Download the picture so far" : "Download";
    this.cancel.hidden = isOver(job);
    this.cancel.lastChild.textContent = job.status === "queued" ? "Cancel" : "Cancel, keep the picture so far";
    this.again.classList.toggle("primary", isOver(job) && !job.links.result);
    const withoutCost = isOver(job) && this.curve.length === 0;
    this.costTitle.hidden = this.curve.element.hidden = withoutCost;
    this.facts.replaceChildren(...list(facts(job)));
    const chosen = Object.entries(job.options).filter(([name, value]) => value !== null && name !== "styles");
    this.options.replaceChildren(...list(chosen.map(([name, value]) => describeOption(name, value))));
    this.optionsTitle.hidden = !chosen.length;
  }

  /** Say why something was not done. */
  complain(detail) {
    this.said.textContent = detail;
  }
}
