/** The page: where one is in it, and how its parts are joined. */

import { connection, getJson, newKey, setAsker, submit, Unreachable } from "./api.js";
import { askForToken, bindKeys } from "./dialogs.js";
import { byId, make, speak } from "./dom.js";
import { Form } from "./form.js";
import { Jobs } from "./jobs.js";
import { makeParts } from "./parts.js";
import { Pictures } from "./pictures.js";
import { makeQueue } from "./queue.js";
import { Stage } from "./stage.js";
import { bindTheme } from "./theme.js";
import { makeWells } from "./wells.js";
import { bytes } from "./words.js";

const MOST_KEPT = 12; // jobs whose files this page keeps, for them to be run again

const BANNERS = {
  down: "The server does not answer. It is tried again by itself; what runs goes on.",
  starting: "The server is starting or stopping. It is tried again by itself.",
};

function bindConnection() {
  const show = (state) => {
    byId("banner").hidden = !(state in BANNERS);
    byId("banner").textContent = BANNERS[state] ?? "";
    document.body.dataset.connection = state;
  };
  connection.addEventListener("change", ({ detail }) => show(detail));
}

function showService(jobs, version) {
  const all = jobs.shown;
  const count = (status) => all.filter((job) => job.status === status).length;
  const parts = [[count("running"), "running"], [count("queued"), "waiting"]].filter(([many]) => many);
  byId("service").textContent = parts.length ? parts.map((part) => part.join(" ")).join(", ") : `Idle, version ${version}`;
  byId("service").classList.toggle("busy", parts.length > 0);
}

class Page {
  #files = new Map();
  #sent = null;
  #focus = null; // what has the focus where one comes to, as what had it is hidden

  constructor(service, presets) {
    this.limits = service.limits;
    this.pictures = new Pictures(service.files.style);
    this.form = new Form(byId("form"), presets, service);
    this.form.more.append(makeParts(this.pictures));
    this.wells = makeWells(byId("wells"), this.pictures);
    this.jobs = new Jobs();
    this.mark = makeQueue(byId("queue-body"), this.jobs);
    this.stage = new Stage(this.jobs, (job) => this.#again(job));
    this.form.addEventListener("send", () => this.#send());
    this.jobs.addEventListener("change", () => showService(this.jobs, service.version));
    addEventListener("hashchange", () => this.#go());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && document.body.dataset.view === "new") byId("form").requestSubmit();
    });
    this.#go();
    this.jobs.refresh();
  }

  #go() {
    const [, place, id] = /^#\/(jobs|new)(?:\/([0-9a-f]{32}))?$/.exec(location.hash) ?? [null, "new"];
    const view = id ? "job" : place;
    if (document.body.dataset.view !== view) scrollTo(0, 0);
    document.body.dataset.view = view;
    byId("compose").hidden = byId("form").hidden = view === "job";
    byId("show").hidden = byId("details").hidden = view !== "job";
    byId("panel").setAttribute("aria-label", view === "job" ? "About this picture" : "Settings");
    for (const link of document.querySelectorAll(".views a")) {
      if (link.dataset.for === (view === "job" ? "jobs" : view)) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.mark(id ?? null);
    document.title = "nstx";
    if (id) this.stage.open(id);
    else this.stage.leave();
    if (this.#focus) document.querySelector(this.#focus).focus({ preventScroll: view === "job" });
    this.#focus = null;
  }

  async #send() {
    this.form.clear();
    if (!this.wells.check()) return;
    const files = this.pictures.snapshot();
    const options = this.form.options();
    const styles = this.pictures.styleOptions();
    if (styles) options.styles = styles;
    const size = [files.photo.file, files.mask, files.regions, ...files.styles.flatMap(({ file, mask }) => [file, mask])].reduce((sum, file) => sum + (file?.size ?? 0), 0);
    if (size > this.limits.max_upload) {
      this.form.complain(`The pictures take ${bytes(size)}; this server takes ${bytes(this.limits.max_upload)} at a time.`);
      return;
    }
    this.form.isBusy = true;
    try {
      const job = await submit({ ...files, photo: files.photo.file, options }, this.#keyOf(files, options));
      this.#sent = null;
      this.#keep(job.id, files);
      this.jobs.put(job);
      speak("Sent");
      this.#focus = ".standing";
      location.hash = `#/jobs/${job.id}`;
    } catch (error) {
      this.#complain(error);
    } finally {
      this.form.isBusy = false;
    }
  }

  /** The key of a form: one that was sent and not answered has the key that it had. */
  #keyOf({ photo, styles, mask, regions }, options) {
    const parts = [photo.file, mask, regions, JSON.stringify(options), ...styles.flatMap((style) => [style.file, style.mask])];
    const isSame = this.#sent?.parts.length === parts.length && parts.every((part, at) => part === this.#sent.parts[at]);
    if (!isSame) this.#sent = { parts, key: newKey() };
    return this.#sent.key;
  }

  #complain(error) {
    if (!(error instanceof Unreachable) && error.status !== 503) this.#sent = null;
    const later = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
    if (this.wells.complain(error.setting, error.message)) return;
    this.form.complain(error.message + later, error.setting);
  }

  #keep(id, files) {
    this.#files.set(id, files);
    if (this.#files.size > MOST_KEPT) this.#files.delete(this.#files.keys().next().value);
  }

  #again(job) {
    const files = this.#files.get(job.id);
    this.form.fill(job.options);
    if (files) this.pictures.restore(files);
    this.#focus = "#field-size";
    location.hash = "#/new";
    if (!files) this.form.complain("The settings are back. Choose the pictures again: the server does not give them out.");
  }
}

async function begin() {
  bindTheme(byId("theme"));
  bindKeys(byId("show-keys"));
  bindConnection();
  setAsker(askForToken);
  const presets = await getJson("/page/presets.json");
  for (;;) {
    try {
      new Page(await getJson("/v1/service"), presets);
      return;
    } catch (error) {
      byId("form").replaceChildren(make("p", { class: "error general", text: error.message }));
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
}

begin();
