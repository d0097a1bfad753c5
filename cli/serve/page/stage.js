/** The job that is looked at: its events, its pictures, and what is done with it. */

import { cancel, getBlob, getJson } from "./api.js";
import { Details } from "./details.js";
import { byId, speak } from "./dom.js";
import { follow } from "./events.js";
import { Viewer } from "./viewer.js";
import { isOver, standing } from "./words.js";

const SHOWABLE = ["png", "jpg", "webp", "avif"];
const MOST_SHOWN = 64e6; // bytes of a result; larger ones are shown by their preview
const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/avif": "avif", "image/tiff": "tiff" };

const WAITING = {
  queued: "It begins as soon as a worker is free.",
  running: "Reading the pictures",
  succeeded: "The picture is not there any more.",
  failed: "It could not be made.",
  canceled: "Canceled before its first step.",
};

export class Stage {
  #job = null;
  #stop = null;
  #blob = null;
  #spoken = 0;
  #known = 0; // the step that it was at when it was opened: earlier ones are told again, for the curve
  #wanted = null;
  #isFetching = false;

  /** `again` is called with a job that shall be run with changes. */
  constructor(jobs, again) {
    this.jobs = jobs;
    this.viewer = new Viewer();
    byId("show").append(this.viewer.element);
    this.details = new Details(byId("details"), {
      download: () => this.#try(() => this.#download()),
      again: () => again(this.#job),
      cancel: () => this.#try(async () => this.#update(await cancel(this.#job.id))),
    });
    jobs.addEventListener("change", () => {
      const job = this.#job && jobs.get(this.#job.id);
      if (job && job !== this.#job) this.#show(job);
    });
  }

  async #try(act) {
    this.details.complain("");
    try {
      await act();
    } catch (error) {
      this.details.complain(error.message);
    }
  }

  /** Look at no job any more. */
  leave() {
    this.#stop?.abort();
    this.#job = this.#blob = this.#stop = null;
    this.viewer.reset(null);
  }

  /** Look at a job. */
  async open(id) {
    this.leave();
    const stop = (this.#stop = new AbortController());
    let job = this.jobs.get(id);
    try {
      job = await getJson(`/v1/jobs/${id}`, { signal: stop.signal });
    } catch (error) {
      if (stop.signal.aborted) return;
      if (error.status === 404 || !job) return this.#gone(error.status === 404 ? "There is no such picture any more." : error.message);
    }
    if (stop.signal.aborted) return;
    this.#job = job;
    this.#spoken = 0;
    this.#known = job.progress?.step ?? 0;
    this.viewer.reset(job.width && job.height ? { width: job.width, height: job.height } : null);
    this.jobs.put(job);
    this.#show(job);
    this.viewer.measure();
    this.viewer.wait(WAITING[job.status], job.status);
    this.#fetchBefore(job, stop.signal);
    if (isOver(job)) this.#fetchResult(job, stop.signal);
    else if (job.links.preview) this.#fetchPreview(job.links.preview, stop.signal);
    follow(id, (kind, data) => this.#hear(kind, data, stop.signal), stop.signal);
  }

  #gone(text) {
    this.viewer.wait(text, "failed");
    byId("details").hidden = true;
  }

  #show(job) {
    const hadBefore = this.#job?.links.before;
    this.#job = job;
    this.details.show(job);
    if (this.viewer.isWaiting) this.viewer.wait(WAITING[job.status], job.status);
    document.title = `${standing(job)} – nstx`;
    if (job.links.before && !hadBefore) this.#fetchBefore(job, this.#stop.signal);
  }

  #update(part) {
    const job = { ...this.#job, ...part };
    this.jobs.put(job);
  }

  #hear(kind, data, signal) {
    const job = this.#job;
    if (kind === "gone") {
      this.jobs.forget(job.id);
      this.#gone("There is no such picture any more.");
    } else if (kind === "step") {
      this.details.curve.add(data);
      if (isOver(job)) this.details.show(job);
      else if (data.step >= this.#known) {
        this.#known = 0;
        this.#update({ status: "running", progress: data });
        this.#speakOf(data);
      }
    } else if (kind === "status" && !isOver(job)) this.#ask(signal);
    else if (kind === "preview" && !isOver(job)) {
      const links = { ...job.links, preview: job.links.preview ?? data.url.split("?")[0], before: job.links.self + "/before" };
      this.#update({ links });
      this.#fetchPreview(data.url, signal);
    } else if (data.id === job.id) {
      const isNews = !isOver(job) || (job.links.result === null && data.links.result !== null);
      this.jobs.put(data);
      this.#show(data);
      if (isNews) speak(data.error ? `Failed: ${data.error.message}` : standing(data));
      if (isNews) this.#fetchResult(data, signal);
    }
  }

  async #ask(signal) {
    const job = await getJson(this.#job.links.self, { signal }).catch(() => null);
    if (job && !signal.aborted) this.jobs.put(job);
  }

  #speakOf({ step, steps }) {
    const quarter = Math.floor((4 * step) / steps);
    if (quarter > this.#spoken && quarter < 4 && !isOver(this.#job)) speak(`${25 * quarter} percent`);
    this.#spoken = Math.max(this.#spoken, quarter);
  }

  async #fetchBefore(job, signal) {
    if (!job.links.before) return;
    const blob = await getBlob(job.links.before, { signal }).catch(() => null);
    if (blob && !signal.aborted) await this.viewer.showBefore(blob);
    if (isOver(this.#job ?? job)) this.viewer.reveal();
  }

  /** Show the newest picture; those that came while another was fetched are left out. */
  async #fetchPreview(path, signal) {
    this.#wanted = { path, signal };
    if (this.#isFetching) return;
    this.#isFetching = true;
    while (this.#wanted) {
      const { path: next, signal: of } = this.#wanted;
      this.#wanted = null;
      const blob = of.aborted ? null : await getBlob(next, { signal: of }).catch(() => null);
      if (blob && !of.aborted && !this.#blob) await this.viewer.showAfter(blob);
    }
    this.#isFetching = false;
  }

  async #fetchResult(job, signal) {
    const { result, links } = job;
    const isShown = result && SHOWABLE.includes(job.format) && result.bytes <= MOST_SHOWN;
    const path = isShown ? links.result : links.preview;
    if (!path) return this.viewer.wait(WAITING[job.status], job.status);
    const blob = await getBlob(path, { signal }).catch(() => null);
    if (!blob || signal.aborted) return;
    if (isShown) this.#blob = blob;
    const size = result?.width && result?.height ? { width: result.width, height: result.height } : undefined;
    if (!(await this.viewer.showAfter(blob, size)) && !signal.aborted) await this.#fetchPreview(links.preview, signal);
    this.viewer.reveal();
  }

  async #download() {
    const job = this.#job;
    const blob = this.#blob ?? (await getBlob(job.links.result));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    const stem = job.name?.replace(/\.[^.]*$/, "") || `nstx-${job.id.slice(0, 8)}`;
    link.download = `${stem}.${ENDINGS[blob.type] ?? job.format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    speak("Downloaded");
  }
}
