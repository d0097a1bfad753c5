/** The jobs that this page knows of, the newest first. */

import { connection, getJson } from "./api.js";
import { isOver } from "./words.js";

const PAGE = 20;
const QUICK = 3000, SLOW = 20_000; // milliseconds

export class Jobs extends EventTarget {
  #jobs = new Map();
  #hidden = new Set();
  #timer = null;
  next = null;
  isLoaded = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => !document.hidden && this.refresh());
    connection.addEventListener("change", ({ detail }) => detail === "up" && this.refresh());
  }

  get(id) {
    return this.#jobs.get(id);
  }

  /** Those that are shown. */
  get shown() {
    const all = [...this.#jobs.values()].filter(({ id }) => !this.#hidden.has(id));
    return all.toSorted((one, other) => Date.parse(other.created) - Date.parse(one.created));
  }

  get hiddenCount() {
    return this.#hidden.size;
  }

  /** Know a job as it now stands. */
  put(job) {
    const known = this.#jobs.get(job.id);
    if (known && isOver(known) && !isOver(job)) return; // an answer that was overtaken
    this.#jobs.set(job.id, job);
    this.#tell();
  }

  /** Know part of a job anew. */
  change(id, part) {
    const job = this.#jobs.get(id);
    if (job && !isOver(job)) this.put({ ...job, ...part });
  }

  forget(id) {
    if (this.#jobs.delete(id)) this.#tell();
  }

  hide(id) {
    this.#hidden.add(id);
    this.#tell();
  }

  showAll() {
    this.#hidden.clear();
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }

  #take({ jobs, next }, isFirst) {
    for (const job of jobs) this.#jobs.set(job.id, job);
    if (!isFirst || this.#jobs.size <= jobs.length) this.next = next;
    if (isFirst && next === null) {
      // The whole list is on this page: what is not on it is no longer kept.
      const kept = new Set(jobs.map(({ id }) => id));
      for (const id of this.#jobs.keys()) if (!kept.has(id)) this.#jobs.delete(id);
      this.next = null;
    }
    this.isLoaded = true;
    this.#tell();
  }

  /** Ask how all stand, and again after a while. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.#take(await getJson(`/v1/jobs?limit=${PAGE}`), true);
    } catch {
      // Tried again; the banner says that nothing answers.
    }
    clearTimeout(this.#timer);
    const isBusy = [...this.#jobs.values()].some((job) => !isOver(job));
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), isBusy ? QUICK : SLOW);
  }

  /** Ask for older ones. */
  async more() {
    if (this.next !== null) this.#take(await getJson(`/v1/jobs?limit=${PAGE}&cursor=${encodeURIComponent(this.next)}`), false);
  }
}
