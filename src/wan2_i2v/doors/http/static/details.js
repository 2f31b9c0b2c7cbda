/* One result, all of it: the video, the checks it passed, every setting. Comes in: a job. Speaks to the API for the record. */

import { api } from "./api.js";
import { LABELS } from "./fields.js";
import * as format from "./format.js";

/** Shown elsewhere in the dialog, or places on the server's disk. */
const LEFT_OUT = [
  "prompt", "negative_prompt", "image", "last_image", "analysis", "added_negative", "steps", "peaks", "times", "warnings", "output", "overwrite", "job_id", "model_path", "model_files",
];
const NAMES = { ...LABELS, loras: "LoRAs", duration_s: "Duration in seconds", dtype: "Number format", nag: "NAG" };

export function details(jobs, nextTick) {
  return {
    id: null,
    record: null,
    missing: "",
    /** Whether a video starts by itself. */
    moving: !matchMedia("(prefers-reduced-motion: reduce)").matches,

    get job() {
      return this.id === null ? null : jobs().byId[this.id] || null;
    },
    get plan() {
      return this.record ? this.record.plan : this.job.plan;
    },
    get checks() {
      return this.job.verification || [];
    },
    get verdict() {
      return verdict(this.job);
    },
    /** Every setting that made the video, as rows of name and value. */
    get rows() {
      const plan = this.plan;
      const rows = Object.entries(plan)
        .filter(([name, value]) => !LEFT_OUT.includes(name) && ![null, ""].includes(value) && value.length !== 0)
        .map(([name, value]) => ({ name: NAMES[name] || format.words(name), value: shown(value) }));
      if (plan.last_image) rows.push({ name: "Ends with", value: `a picture of ${format.size(plan.last_image.width, plan.last_image.height)}` });
      if (Array.isArray(plan.steps)) {
        rows.push({ name: "Noise levels", value: plan.steps.map((step) => `${format.number(step.sigma)} ${step.expert}`).join(", ") });
      }
      return rows;
    },
    get timings() {
      const taken = (this.record && this.record.seconds) || {};
      return Object.entries(taken).map(([stage, value]) => ({ name: format.stageName(stage), value: `${value.toFixed(2)} s` }));
    },

    open(job) {
      this.id = job.id;
      this.record = null;
      this.missing = "";
      nextTick(() => document.getElementById("details").showModal());
      this.load(job.id);
    },
    async load(id) {
      try {
        const record = await api.record(id);
        if (this.id === id) this.record = record;
      } catch (error) {
        this.missing = error.message;
      }
    },
    /** The dialog was closed, by whatever means: stop the video, forget the job. */
    closed() {
      this.id = null;
      this.record = null;
    },
    close() {
      document.getElementById("details").close();
    },
    reuse(compose) {
      const job = this.job;
      this.close();
      compose.reuse(job);
    },
    async again() {
      await jobs().again(this.job);
      this.close();
    },
    async forget() {
      const job = this.job;
      this.close();
      await jobs().forget(job);
    },
    mark: (check) => mark(check),
  };
}

/** What all checks together say: passed, unsure, failed, or nothing when there are none. */
export function verdict(job) {
  const checks = job.verification || [];
  if (!checks.length) return { kind: "none", text: "Not checked" };
  const failed = checks.filter((one) => mark(one) === "failed");
  if (failed.length) return { kind: "failed", text: failed.length > 1 ? `${failed.length} checks failed` : "1 check failed" };
  if (checks.some((one) => mark(one) === "unsure")) return { kind: "unsure", text: "Passed, with doubts" };
  return { kind: "passed", text: "All checks passed" };
}

function mark(check) {
  if (check.state === "unsure" || check.state === "unchecked") return check.state;
  return check.passed ? "passed" : "failed";
}

function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([name, one]) => `${name} ${shown(one)}`).join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return format.number(value);
}
