/** What happens to a job: server-sent events, read by fetch, as `EventSource` can send no token. */

import { Problem, request } from "./api.js";

const FINAL = ["succeeded", "failed", "canceled"];
const SILENCE = 30_000; // milliseconds; the server says something every ten seconds

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** Take events off a text of server-sent events; returns them and what is left of the text. */
export function parse(text) {
  const blocks = text.split(/\r\n\r\n|\n\n|\r\r/);
  const rest = blocks.pop();
  const events = [];
  for (const block of blocks) {
    const event = { type: "message", data: "", id: null };
    for (const line of block.split(/\r\n|\n|\r/)) {
      const [, name, value] = /^([^:]*)(?::\s?(.*))?$/s.exec(line) ?? [];
      if (name === "event") event.type = value;
      else if (name === "data") event.data += (event.data ? "\n" : "") + (value ?? "");
      else if (name === "id") event.id = value;
    }
    if (event.data) events.push(event);
  }
  return [events, rest];
}

async function readStream(response, controller, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let events;
  for (;;) {
    const alarm = setTimeout(() => controller.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(alarm));
    if (done) return;
    [events, text] = parse(text + value);
    for (const event of events) take(event);
  }
}

/**
 * Tell what happens to a job until it is over or the signal says stop; go on after what broke off.
 * `tell` gets the kind of an event and its data; "gone" is of a job that is no longer kept.
 */
export async function follow(id, tell, signal) {
  let last = null;
  let wait = 500;
  let isOver = false;
  const take = (event) => {
    wait = 500;
    if (event.id !== null) last = event.id;
    if (signal.aborted) return;
    isOver ||= FINAL.includes(event.type);
    tell(event.type, JSON.parse(event.data));
  };
  while (!signal.aborted && !isOver) {
    const controller = new AbortController();
    const stop = () => controller.abort();
    signal.addEventListener("abort", stop);
    try {
      const headers = last === null ? {} : { "Last-Event-ID": last };
      const path = `/v1/jobs/${id}/events`;
      const response = await request(path, { headers, signal: controller.signal });
      if (response.status === 204) return;
      await readStream(response, controller, take);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return tell("gone", {});
    } finally {
      signal.removeEventListener("abort", stop);
    }
    if (signal.aborted || isOver) return;
    await sleep(wait);
    wait = Math.min(wait * 2, 8000);
  }
}
