/* The form's fields, derived from the JSON schema of a request: limits, choices, defaults and help are the server's own.
   Comes in: the schema. Goes out: sections of fields, and the sparse settings of a filled form. */

import { words } from "./format.js";

const SECTIONS = [
  ["Clip", ["num_frames", "fps", "seed"]],
  ["Size and picture", ["width", "height", "crop", "background"]],
  ["Sampling", ["recipe", "num_inference_steps", "sampler", "scheduler", "flow_shift", "boundary_ratio"]],
  ["Guidance", ["guidance_scale_high", "guidance_scale_low", "nag", "nag_scale", "nag_tau", "nag_alpha", "allow_speech"]],
  ["Attempts", ["best_of", "retries", "time_budget"]],
  ["LoRAs", ["loras", "loras_high", "loras_low"]],
  ["Speed", ["attention", "compile"]],
  ["File", ["container", "crf"]],
];
/** Labels of fields whose names make no good ones. */
export const LABELS = {
  num_frames: "Frames",
  fps: "Frames per second",
  num_inference_steps: "Steps",
  flow_shift: "Shift",
  boundary_ratio: "Boundary",
  guidance_scale_high: "CFG, high noise",
  guidance_scale_low: "CFG, low noise",
  nag: "NAG",
  allow_speech: "Mouths may move",
  nag_scale: "NAG scale",
  nag_tau: "NAG tau",
  nag_alpha: "NAG alpha",
  compile: "Compile the blocks",
  container: "Format",
  crf: "Quality (CRF)",
  background: "Background",
  loras: "Both experts",
  loras_high: "High-noise expert",
  loras_low: "Low-noise expert",
  best_of: "Best of",
  time_budget: "Time budget in seconds",
};
/** Fields with a place of their own on the page, and those that need a folder of the server. */
const ELSEWHERE = ["prompt", "negative_prompt"];

/** `[{title, open, fields}]`, the first open where there is room; whatever the schema has and the page does not know goes last. */
export function sections(schema, roomy) {
  const properties = schema.properties || {};
  const placed = new Set(ELSEWHERE);
  const made = SECTIONS.map(([title, names]) => {
    names.forEach((name) => placed.add(name));
    return { title, fields: names.filter((name) => properties[name]).map((name) => field(name, properties[name])) };
  });
  const rest = Object.keys(properties).filter((name) => !placed.has(name));
  made.push({ title: "More", fields: rest.map((name) => field(name, properties[name])) });
  for (const section of made) section.fields = section.fields.filter((one) => one.kind !== null);
  made.forEach((section, index) => (section.open = roomy && index === 0));
  return made.filter((section) => section.fields.length);
}

function field(name, schema) {
  const option = (schema.anyOf || [schema]).find((one) => one.type !== "null") || {};
  const nullable = (schema.anyOf || []).some((one) => one.type === "null");
  return {
    name,
    id: `field-${name}`,
    label: LABELS[name] || words(name),
    help: schema.description || "",
    kind: kindOf(option),
    integer: option.type === "integer",
    min: option.minimum ?? option.exclusiveMinimum ?? null,
    above: option.exclusiveMinimum !== undefined,
    max: option.maximum ?? null,
    choices: option.enum || [],
    nullable,
    initial: schema.default ?? null,
  };
}

function kindOf(option) {
  if (option.enum) return "choice";
  if (option.type === "integer" || option.type === "number") return "number";
  if (option.type === "boolean") return "switch";
  if (option.type === "array" && option.items.type === "string") return "list";
  return option.type === "string" ? "text" : null;
}

/** A form with every field at its default; text boxes hold text, so that an empty one means "choose for me". */
export function blank(list) {
  const form = { prompt: "", negative_prompt: "" };
  for (const section of list) {
    for (const one of section.fields) form[one.name] = one.kind === "switch" ? Boolean(one.initial) : textOf(one.initial);
  }
  return form;
}

/** A list is written one item a line. */
export const textOf = (value) =>
  value === null || value === undefined ? "" : Array.isArray(value) ? value.join("\n") : String(value);

/** What differs from the defaults, with numbers as numbers: what the API gets. */
export function settingsOf(form, list) {
  const settings = {};
  for (const name of ELSEWHERE) if (form[name].trim()) settings[name] = form[name];
  for (const section of list) {
    for (const one of section.fields) {
      const value = valueOf(form[one.name], one);
      if (value !== undefined && value !== one.initial) settings[one.name] = value;
    }
  }
  return settings;
}

function valueOf(raw, one) {
  if (one.kind === "switch") return Boolean(raw);
  const text = textOf(raw).trim();
  if (text === "") return undefined;
  if (one.kind === "list") return text.split("\n").map((item) => item.trim()).filter(Boolean);
  if (one.kind !== "number") return text;
  // A whole number beyond 2^53 would lose digits without a word; as text it is refused with one.
  const value = Number(text);
  return Number.isNaN(value) || (Number.isInteger(value) && !Number.isSafeInteger(value)) ? text : value;
}

/** Put settings of a job, or of a preset, into a form. Fields they do not name go back to their defaults. */
export function fill(form, list, settings) {
  const fresh = blank(list);
  for (const name of Object.keys(fresh)) {
    const value = settings[name];
    if (value === undefined) form[name] = fresh[name];
    else form[name] = typeof fresh[name] === "boolean" ? Boolean(value) : textOf(value);
  }
}
