/** Requests to the service: the token, its errors, and whether it answers at all. */

const KEY = "nstx-token";

/** An error that the service explains (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail || body.title || `The server answered ${status}.`);
    this.status = status;
    this.setting = body.setting ?? null;
    this.retryAfter = retryAfter;
  }
}

/** No answer. */
export class Unreachable extends Error {}

/** Tells "up", "down" and "starting" as the server comes and goes. */
export const connection = new EventTarget();
let standing = "up";

function change(state) {
  if (state === standing) return;
  standing = state;
  connection.dispatchEvent(new CustomEvent("change", { detail: state }));
  if (state !== "up") knock();
}

async function knock() {
  while (standing !== "up") {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    try {
      const { ok } = await fetch("/readyz", { cache: "no-store" });
      change(ok ? "up" : "starting");
    } catch {
      change("down");
    }
  }
}

let askForToken = async () => null;
let asking = null;

/** Have tokens asked for by a function of whether the last one was wrong; it returns one. */
export function setAsker(asker) {
  askForToken = asker;
}

function readToken() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

let token = readToken();

async function renewToken(used) {
  if (used !== token) return; // another request was quicker
  asking ??= askForToken(used !== null).finally(() => (asking = null));
  token = await asking;
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // It lasts as long as the page, then.
  }
}

async function toProblem(response) {
  let body = {};
  try {
    const read = await response.json();
    if (read && typeof read === "object") body = read;
  } catch {
    // A proxy's own page, which says nothing that is worth showing.
  }
  const wait = Number(response.headers.get("Retry-After"));
  return new Problem(response.status, body, Number.isFinite(wait) && wait > 0 ? wait : null);
}

/** Send a request; returns an answer that is good. Throws `Problem` or `Unreachable`. */
export async function request(path, { headers = {}, ...options } = {}) {
  for (;;) {
    const used = token;
    const sent = used ? { ...headers, Authorization: `Bearer ${used}` } : headers;
    let response;
    try {
      response = await fetch(path, { ...options, headers: sent });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      change("down");
      throw new Unreachable("The server does not answer. It is tried again by itself.");
    }
    if (response.status === 401) {
      await renewToken(used);
      continue;
    }
    if (response.ok) {
      if (standing === "down") change("up");
      return response;
    }
    const problem = await toProblem(response);
    if (response.status === 503) change("starting");
    throw problem;
  }
}

/** What the path answers, as data. */
export async function getJson(path, options) {
  return (await request(path, options)).json();
}

/** What the path answers, as a file. */
export async function getBlob(path, options) {
  return (await request(path, options)).blob();
}

/** A key that makes sending a form twice the same as sending it once. */
export function newKey() {
  const numbers = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is for https alone
  return `"${Array.from(numbers, (value) => value.toString(16).padStart(2, "0")).join("")}"`;
}

/** Ask for a picture: files and options. Returns the job. */
export async function submit({ photo, styles, mask, regions, options }, key) {
  const form = new FormData();
  form.append("content", photo, photo.name || "content");
  for (const style of styles) form.append("style", style.file, style.file.name || "style");
  for (const style of styles) if (style.mask) form.append("style_mask", style.mask, style.mask.name || "style_mask");
  if (mask) form.append("mask", mask, "mask");
  if (regions) form.append("regions", regions, "regions");
  form.append("options", JSON.stringify(options));
  return getJson("/v1/jobs", { method: "POST", body: form, headers: { "Idempotency-Key": key } });
}

/** Cancel a job; its picture so far is kept. */
export async function cancel(id) {
  return getJson(`/v1/jobs/${id}/cancel`, { method: "POST" });
}
