/** The list of pictures: how each stands, and what can be done with it. */

import { cancel } from "./api.js";
import { button, byId, icon, make, speak } from "./dom.js";
import { describeOption } from "./fields.js";
import { drawThumb } from "./thumbs.js";
import { ago, isOver, standing } from "./words.js";

class Row {
  constructor(job, jobs) {
    this.canvas = make("canvas", { width: 4, height: 3, "aria-hidden": "true" });
    this.title = make("span", { class: "title" });
    this.note = make("span", { class: "note" });
    this.bar = make("span", { class: "thin-bar" }, make("span", {}));
    this.link = make("a", { href: `#/jobs/${job.id}` }, make("span", { class: "thumb" }, icon("photo"), this.canvas),
      make("span", { class: "words" }, this.title, this.note, this.bar));
    this.cancel = button("", { symbol: "stop", kind: "plain small" }, async () => {
      try {
        jobs.put(await cancel(job.id));
        speak("Canceled");
      } catch (error) {
        speak(error.message);
      }
    });
    this.hide = button("", { symbol: "close", kind: "plain small" }, () => {
      const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
      jobs.hide(job.id);
      (next?.querySelector("a") ?? byId("queue-title")).focus();
      speak("Removed from this list; the server keeps it");
    });
    this.element = make("li", { data: { id: job.id } }, this.link, make("span", { class: "acts" }, this.cancel, this.hide));
  }

  show(job, current) {
    const [, look] = describeOption("preset", job.options.preset ?? "default");
    const size = job.width && job.height ? `${job.width} × ${job.height}` : job.options.size ? `${job.options.size} px` : "";
    const name = [look, size].filter(Boolean).join(", ");
    this.title.textContent = name;
    this.note.textContent = isOver(job) ? `${standing(job)}, ${ago(job.ended ?? job.created)}` : standing(job);
    this.element.dataset.status = job.status;
    this.link.toggleAttribute("aria-current", job.id === current);
    if (job.id === current) this.link.setAttribute("aria-current", "page");
    const share = job.status === "running" && job.progress ? job.progress.step / job.progress.steps : 0;
    this.bar.hidden = job.status !== "running";
    this.bar.firstChild.style.width = `${100 * share}%`;
    this.cancel.hidden = isOver(job);
    this.hide.hidden = !isOver(job);
    for (const [control, verb] of [[this.cancel, "Cancel"], [this.hide, "Remove from this list"]]) {
      control.title = verb;
      control.setAttribute("aria-label", `${verb}: ${name}, ${ago(job.created)}`);
    }
    drawThumb(this.canvas, job);
  }
}

/** Show a list of jobs in an element, and keep it as they stand. Returns what marks the one that is looked at. */
export function makeQueue(root, jobs) {
  const rows = new Map();
  let current = null;
  byId("queue-title").tabIndex = -1;
  const list = make("ol", { class: "list" });
  const empty = make("div", { class: "none" }, icon("grid"), make("p", { text: "No pictures yet" }),
    make("p", { class: "hint", text: "What is made on this server is listed here." }));
  const more = button("Show older", { kind: "plain more-jobs" }, async () => {
    more.disabled = true;
    try {
      await jobs.more();
    } catch (error) {
      speak(error.message);
    }
    more.disabled = false;
  });
  const all = button("", { kind: "plain more-jobs" }, () => jobs.showAll());
  all.append(make("span", {}));
  root.replaceChildren(empty, list, more, all);

  const show = () => {
    const shown = jobs.shown;
    for (const [id, row] of rows) {
      if (!shown.some((job) => job.id === id)) {
        row.element.remove();
        rows.delete(id);
      }
    }
    shown.forEach((job, at) => {
      if (!rows.has(job.id)) rows.set(job.id, new Row(job, jobs));
      const row = rows.get(job.id);
      row.show(job, current);
      if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at] ?? null);
    });
    empty.hidden = !jobs.isLoaded || shown.length > 0;
    more.hidden = jobs.next === null;
    all.hidden = jobs.hiddenCount === 0;
    all.firstChild.textContent = `Show ${jobs.hiddenCount} removed`;
  };
  let isDue = false;
  jobs.addEventListener("change", () => {
    if (isDue) return;
    isDue = true; // many steps may be told within one frame
    requestAnimationFrame(() => {
      isDue = false;
      show();
    });
  });
  show();
  return (id) => {
    current = id;
    show();
  };
}
