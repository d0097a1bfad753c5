/** Small pictures of jobs: drawn once, kept small, so that a long list takes little memory. */

import { getBlob } from "./api.js";

const WIDE = 128;
const MOST = 200;
const kept = new Map(); // id → {key, bitmap}
let line = Promise.resolve();

async function load(job, key) {
  const have = kept.get(job.id);
  if (have?.key === key) return have.bitmap;
  const blob = await getBlob(job.links.preview);
  const bitmap = await createImageBitmap(blob, { resizeWidth: WIDE, resizeQuality: "high" });
  have?.bitmap.close();
  kept.delete(job.id);
  kept.set(job.id, { key, bitmap });
  if (kept.size > MOST) {
    const [oldest, { bitmap: old }] = kept.entries().next().value;
    kept.delete(oldest);
    old.close();
  }
  return bitmap;
}

async function paint(canvas, job, key) {
  try {
    const bitmap = await load(job, key);
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    canvas.classList.add("drawn");
  } catch {
    setTimeout(() => delete canvas.dataset.key, 10_000); // then it is tried again
  }
}

/** Draw a job's picture into a canvas, one job after the other; a running one's again at every fifth of its way. */
export function drawThumb(canvas, job) {
  if (!job.links.preview) return;
  const fifth = job.progress ? Math.floor((5 * job.progress.step) / job.progress.steps) : 0;
  const key = `${job.status} ${fifth}`;
  if (canvas.dataset.key === key) return;
  canvas.dataset.key = key;
  line = line.then(() => paint(canvas, job, key));
}
