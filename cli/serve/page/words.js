/** Numbers and times as people read them. */

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A number of three digits: 0.0312, 1.5, 12 000. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return NUMBER.format(value);
}

/** Bytes. */
export function bytes(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${NUMBER.format(count / size)} ${unit}`;
  }
  return `${count} bytes`;
}

/** Seconds. */
export function seconds(count) {
  if (count < 60) return `${NUMBER.format(count < 10 ? count : Math.round(count))} s`;
  const minutes = Math.floor(count / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(count % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** How long ago a moment was. */
export function ago(moment) {
  const passed = (Date.now() - Date.parse(moment)) / 1000;
  if (passed < 45) return "just now";
  if (passed < 3600) return `${Math.max(1, Math.round(passed / 60))} min ago`;
  if (passed < 86400) return `${Math.round(passed / 3600)} h ago`;
  return new Date(moment).toLocaleDateString();
}

/** How a job stands, in a line. */
export function standing(job) {
  const { status, progress, result } = job;
  if (status === "queued") {
    return job.position ? `Waiting, ${job.position} before it` : "Waiting, next in line";
  }
  if (status === "running") {
    return progress ? `Step ${progress.step} of ${progress.steps}` : "Preparing";
  }
  if (status === "succeeded") return result?.seconds ? `Done in ${seconds(result.seconds)}` : "Done";
  if (status === "canceled") return result ? `Canceled after step ${result.steps}` : "Canceled";
  return "Failed";
}

/** Whether nothing more will happen to a job. */
export const isOver = (job) => ["succeeded", "failed", "canceled"].includes(job.status);
