/* Numbers and states as people read them. Pure: data in, text out. */

const GIB = 2 ** 30;
const STATES = {
  queued: "Waiting",
  running: "Running",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  timed_out: "Timed out",
  set_aside: "Set aside",
};
const STAGES = {
  analyze: "Looking at the picture",
  preprocess: "Preparing the picture",
  text: "Reading the prompt",
  image: "Encoding the picture",
  "denoise high": "Denoising, high noise",
  "denoise low": "Denoising, low noise",
  "denoise single": "Denoising",
  "denoise high plain": "Denoising, high noise, no LoRA",
  "denoise single plain": "Denoising, no LoRA",
  decode: "Decoding frames",
  interpolate: "Adding frames between",
  encode: "Writing the video",
  verify: "Checking the video",
  finish: "Finishing",
};

export const stateName = (state) => STATES[state] || state;
export const stageName = (stage) => STAGES[stage] || (stage ? stage[0].toUpperCase() + stage.slice(1) : "Starting");
export const seconds = (value) => `${Number(value).toFixed(3)} s`;
export const size = (width, height) => `${width} × ${height}`;

export function gib(bytes) {
  const value = bytes / GIB;
  return `${value < 10 ? value.toFixed(2) : value.toFixed(1)} GiB`;
}

export function bytes(count) {
  if (count < 2 ** 20) return `${Math.max(1, Math.round(count / 1024))} KiB`;
  return `${(count / 2 ** 20).toFixed(count < 2 ** 20 * 10 ? 1 : 0)} MiB`;
}

/** A span of time, roughly, as one says it. */
export function span(value) {
  if (value < 1) return "under 1 s";
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** When something was, seen from `now`; both in unix seconds. */
export function ago(at, now) {
  if (!at) return "";
  const past = now - at;
  if (past < 45) return "just now";
  if (past < 86400) return `${span(past)} ago`;
  return new Date(at * 1000).toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
}

/** A number without needless digits. */
export function number(value) {
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toFixed(4))) : String(value);
}

/** A field's name as a label, when it has no better one. */
export function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

/** Aspect of a size in small numbers where there are such, for example 3:2. */
export function aspect(width, height) {
  let [a, b] = [width, height];
  while (b) [a, b] = [b, a % b];
  const [x, y] = [width / a, height / a];
  return x <= 21 && y <= 21 ? `${x}:${y}` : `${(width / height).toFixed(2)}:1`;
}
