/* The form: pictures, words, settings, and the plan beside it. Everything but a file still on its way is in the draft. */

import { api, pictureUrl } from "./api.js";
import { blank, fill, sections, settingsOf, textOf } from "./fields.js";
import * as format from "./format.js";
import { recall, remember } from "./storage.js";

const PLAN_MS = 250;
const EMPTY = { prompt: "", negative_prompt: "" };
const WORDS = [
  { name: "prompt", label: "What shall happen", rows: 4, example: "The boat rocks gently on the waves, in soft evening light." },
  { name: "negative_prompt", label: "What shall not happen", rows: 2, example: "" },
];

export function compose(session, jobs) {
  return {
    words: WORDS,
    sections: [],
    form: { ...EMPTY },
    pictures: [],
    /** The picture that every clip ends with, or null. */
    last: null,
    chosen: 0,
    dragging: 0,
    plan: null,
    planning: false,
    errors: {},
    problem: "",
    sending: false,

    // --- draft ---
    begin() {
      this.sections = sections(session().schema, matchMedia("(min-width: 821px)").matches);
      this.form = blank(this.sections);
      const draft = recall("draft", null);
      if (draft) {
        fill(this.form, this.sections, draft.settings || {});
        this.pictures = (draft.pictures || []).map((one) => ({ ...one, state: "ready" }));
        this.last = draft.last ? { ...draft.last, state: "ready" } : null;
        this.chosen = Math.min(draft.chosen || 0, Math.max(0, this.pictures.length - 1));
      }
      this.replan();
    },
    save() {
      const kept = ({ key, sha, name, width, height, warnings, ends }) => ({ key, sha, name, width, height, warnings, ends });
      const last = this.lastId ? kept(this.last) : null;
      remember("draft", { pictures: this.ready.map(kept), last, chosen: this.chosen, settings: this.settings });
    },
    get settings() {
      return settingsOf(this.form, this.sections);
    },
    get ready() {
      return this.pictures.filter((one) => one.state === "ready");
    },
    get lastId() {
      return this.last && this.last.state === "ready" ? this.last.sha : null;
    },
    /** All pictures as the strip shows them, the last one at its end. */
    get strip() {
      return this.last ? [...this.pictures, this.last] : this.pictures;
    },
    get current() {
      return this.pictures[this.chosen] || null;
    },

    // --- pictures ---
    async add(files) {
      const wanted = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
      if (!wanted.length && files.length) session().tell("That is no picture.");
      const slots = wanted.map((file) => ({ key: unique(), file, name: file.name || "Pasted picture", state: "uploading" }));
      const first = this.pictures.length;
      this.pictures.push(...slots);
      if (slots.length) this.chosen = first;
      for (const slot of slots) await this.upload(slot.key);
    },
    async upload(key) {
      const slot = this.strip.find((one) => one.key === key);
      const limit = session().info.limits.max_upload_bytes;
      if (limit && slot.file.size > limit) {
        const [has, may] = [format.bytes(slot.file.size), format.bytes(limit)];
        return this.refuse(slot, `${has} is more than the ${may} that the server takes.`);
      }
      slot.state = "uploading";
      try {
        const kept = await api.upload(slot.file);
        Object.assign(slot, {
          state: "ready", sha: kept.picture, width: kept.width, height: kept.height, warnings: kept.warnings || [],
        });
        delete slot.file;
        session().say(`${slot.name} is ready`);
        this.changed();
      } catch (error) {
        this.refuse(slot, error.message);
      }
    },
    refuse(slot, message) {
      Object.assign(slot, { state: "refused", message });
      session().say(`${slot.name}: ${message}`);
    },
    choose(index) {
      this.chosen = index;
      this.changed();
    },
    remove(index) {
      if (index === this.pictures.length) this.last = null;
      else this.pictures.splice(index, 1);
      if (this.chosen >= index && this.chosen > 0) this.chosen -= 1;
      this.changed();
      document.getElementById("choose").focus();
    },
    /** The server keeps pictures for long, not for ever; one that is gone has to be given again. */
    gone(index) {
      const slot = this.strip[index];
      if (slot.state === "ready" && session().online) this.refuse(slot, "The server no longer has this picture. Add it again.");
    },
    thumbnail: (one) => (one.sha ? pictureUrl(one.sha, 256) : ""),
    sizeOf: (one) => (one.width ? `${format.size(one.width, one.height)}, ${format.aspect(one.width, one.height)}` : ""),
    pickFiles(event) {
      this.add(event.target.files);
      event.target.value = "";
    },
    pickLast(event) {
      const [file] = event.target.files;
      event.target.value = "";
      if (!file) return;
      this.last = { key: unique(), file, name: file.name, state: "uploading", ends: true };
      this.upload(this.last.key);
    },
    dropped(event) {
      this.dragging = 0;
      this.add(event.dataTransfer.files);
    },
    pasted(event) {
      const files = event.clipboardData ? event.clipboardData.files : [];
      if (!files.length || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.add(files);
    },
    carries: (event) => [...event.dataTransfer.types].includes("Files"),
    dragIn(event) {
      if (this.carries(event)) this.dragging += 1;
    },
    dragOut() {
      this.dragging = Math.max(0, this.dragging - 1);
    },

    // --- words and settings ---
    usePreset(preset) {
      this.form.prompt = preset.prompt;
      this.form.negative_prompt = preset.negative_prompt || "";
      for (const [name, value] of Object.entries(preset.settings || {})) {
        if (name in this.form) this.form[name] = typeof value === "boolean" ? value : textOf(value);
      }
      this.changed();
      session().say(`${preset.title} is in the form`);
    },
    isPreset(preset) {
      return this.form.prompt === preset.prompt && this.form.negative_prompt === (preset.negative_prompt || "");
    },
    /** Everything of a job back in the form, its picture included. */
    reuse(job) {
      fill(this.form, this.sections, { ...job.settings });
      const index = this.pictures.findIndex((one) => one.sha === job.picture);
      if (index < 0) this.pictures.push({ key: unique(), sha: job.picture, name: job.id, state: "ready", warnings: [] });
      this.chosen = index < 0 ? this.pictures.length - 1 : index;
      const sha = job.last_picture;
      this.last = sha ? { key: unique(), sha, name: "Last picture", state: "ready", warnings: [], ends: true } : null;
      this.changed();
      document.getElementById("prompt").focus();
      session().tell("The settings are in the form.");
    },
    reset() {
      this.form = blank(this.sections);
      this.changed();
      session().tell("All settings are at their defaults.");
    },
    setSize(width, height) {
      this.form.width = textOf(width);
      this.form.height = textOf(height);
      this.changed();
    },
    hasSize(width, height) {
      return this.form.width === textOf(width) && this.form.height === textOf(height);
    },
    sizes() {
      return (session().model || { sizes: [] }).sizes.map(([width, height]) => ({
        width, height, label: format.size(width, height), aspect: format.aspect(width, height),
      }));
    },
    drawSeed() {
      this.form.seed = String(crypto.getRandomValues(new Uint32Array(1))[0]);
      this.changed();
    },
    modified(section) {
      const settings = this.settings;
      return section.fields.filter((one) => one.name in settings).length;
    },
    hint(one) {
      // A limit that no number of this language can hold is not worth telling.
      if (one.kind !== "number" || one.max === null || !(one.max <= Number.MAX_SAFE_INTEGER)) return `${one.help}.`;
      return `${one.help}. ${one.above ? "Above" : "From"} ${one.min} to ${one.max}.`;
    },

    // --- what was seen in the picture ---
    /** With `label` where the form can take the advice, and without what it follows already. */
    get advice() {
      const analysis = this.plan && this.plan.analysis;
      return (analysis ? analysis.advice : []).filter((one) => this.tellsMore(one)).map((one) => ({ ...one, label: this.labelOf(one) })).filter((one) => !this.follows(one));
    },
    /** A preset brings its prompts along, and that there is none for this picture needs no line. */
    tellsMore(one) {
      return one.urgency === "warning" || (one.value !== "none" && one.about !== "prompt" && one.about !== "negative_prompt");
    },
    get advised() {
      return this.advice.some((one) => one.urgency === "warning");
    },
    labelOf(one) {
      if (one.about === "size") return /^\d+x\d+$/.test(one.value) ? one.value.replace("x", " × ") : "";
      if (one.about === "num_frames") return `${one.value} frames`;
      if (one.about === "crop") return one.value === "auto" ? "" : `Crop ${one.value}`;
      const preset = one.about === "preset" && session().presets.find((known) => known.name === one.value);
      return preset ? preset.title : "";
    },
    follows(one) {
      if (one.about === "size") return one.value === `${this.plan.width}x${this.plan.height}`;
      return one.about in this.form && this.form[one.about] === one.value;
    },
    take(one) {
      if (one.about === "size") this.setSize(...one.value.split("x"));
      else if (one.about === "preset") this.usePreset(session().presets.find((known) => known.name === one.value));
      else this.form[one.about] = one.value;
      this.changed();
      session().say(`${one.label} is set`);
    },

    // --- plan ---
    changed() {
      this.save();
      this.replan();
    },
    replan() {
      clearTimeout(this.planTimer);
      this.planTimer = setTimeout(() => this.planNow(), PLAN_MS);
    },
    async planNow() {
      if (this.planAbort) this.planAbort.abort();
      const picture = this.current && this.current.state === "ready" ? this.current.sha : null;
      if (!picture) {
        this.plan = null;
        this.planning = false;
        return;
      }
      const abort = (this.planAbort = new AbortController());
      this.planning = true;
      try {
        this.plan = await api.plan({ picture, last_picture: this.lastId, settings: this.settings }, abort.signal);
        this.blame(null);
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.lost) session().online = false;
        else if (error.status !== 401) this.blame(error);
      } finally {
        if (this.planAbort === abort) this.planning = false;
      }
    },
    /** Show a refusal next to the field that it names, or above the button when the form has no such field. */
    blame(error) {
      const known = error && error.field && error.field in this.form;
      this.errors = known ? { [error.field]: error.message } : {};
      this.problem = error && !known ? error.message : "";
      if (error) this.plan = null;
      if (known) this.reveal(error.field);
    },
    reveal(name) {
      const box = document.getElementById(`field-${name}`);
      const folded = box && box.closest("details");
      if (folded) folded.open = true;
    },
    hints(field) {
      return this.plan ? this.plan.hints.filter((one) => one.field === field) : [];
    },

    // --- sending ---
    get submitLabel() {
      const count = this.ready.length;
      return count > 1 ? `Make ${count} videos` : "Make video";
    },
    get why() {
      if (!this.pictures.length) return "Add a picture first.";
      if (this.strip.some((one) => one.state === "uploading")) return "A picture is still on its way.";
      if (this.last && !this.lastId) return "The last picture could not be used; remove it.";
      if (!this.ready.length) return "No picture could be used.";
      return "";
    },
    async submit() {
      if (this.sending) return;
      if (this.why) {
        session().tell(this.why);
        document.getElementById("choose").focus();
        return;
      }
      this.sending = true;
      const entries = this.ready.map((one) => ({
        job_id: jobName(one.name), picture: one.sha, last_picture: this.lastId, settings: this.settings,
      }));
      try {
        await jobs().send(entries);
        const kept = jobs().outbox.length;
        if (kept) session().tell("The server is away. It is kept here and sent when the server is back.");
        else session().tell(entries.length > 1 ? `${entries.length} jobs are in the queue.` : "The job is in the queue.");
      } catch (error) {
        this.blame(error);
        const box = error.field && document.getElementById(`field-${error.field}`);
        if (box) box.focus();
      } finally {
        this.sending = false;
      }
    },
  };
}

const hex = (count) => [...crypto.getRandomValues(new Uint8Array(count))].map((one) => one.toString(16).padStart(2, "0")).join("");
const unique = () => hex(6);

/** A job's id, which names its file too: the picture's name and what makes it the only one. */
function jobName(name) {
  const stem = name.replace(/\.[^.]*$/, "").normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return `${stem.slice(0, 40).toLowerCase() || "picture"}-${hex(4)}`;
}
