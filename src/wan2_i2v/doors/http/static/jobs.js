/* All jobs that the page knows, by id, kept true by events; and what waits to be sent while the server is away. */

import { api, pictureUrl } from "./api.js";
import * as format from "./format.js";
import { recall, remember } from "./storage.js";

const PAGE = 24;
const MANY = 500;
const RECENT = 12;
const OVER = ["failed", "timed_out", "set_aside", "cancelled"];
const RETRIED = ["failed", "timed_out", "set_aside"];
const SEARCH_MS = 250;

export function jobs(session) {
  return {
    byId: {},
    loaded: false,
    loading: 0,
    held: [],
    outbox: recall("outbox", []),
    now: Date.now() / 1000,
    search: "",
    results: [],
    next: null,
    searching: false,

    // --- what is shown ---
    get all() {
      return Object.values(this.byId);
    },
    get active() {
      const mine = this.all.filter((job) => job.state === "running" || job.state === "queued");
      return mine.sort((a, b) => rank(a) - rank(b) || a.created_at - b.created_at);
    },
    get running() {
      return this.active.filter((job) => job.state === "running");
    },
    get ended() {
      return this.all.filter((job) => OVER.includes(job.state)).sort((a, b) => b.finished_at - a.finished_at);
    },
    get gallery() {
      return this.results.map((id) => this.byId[id]).filter((job) => job && job.state === "done");
    },
    /** For the chip in the header. */
    get summary() {
      if (!this.active.length) return "Queue empty";
      const waiting = this.active.length - this.running.length;
      if (!this.running.length) return `${waiting} waiting`;
      const share = Math.round(this.running[0].fraction * 100);
      return `Running ${share} %` + (waiting ? `, ${waiting} waiting` : "");
    },

    // --- loading ---
    async load() {
      this.loading += 1;
      try {
        const [active, over] = await Promise.all([
          api.jobs({ state: ["running", "queued"], limit: MANY }),
          api.jobs({ state: OVER, limit: RECENT }),
        ]);
        const here = [...active.jobs, ...over.jobs];
        const ids = new Set(here.map((job) => job.id));
        for (const job of [...this.active, ...this.ended]) if (!ids.has(job.id)) delete this.byId[job.id];
        here.forEach((job) => this.put(job));
        await this.find();
        this.loaded = true;
      } finally {
        this.loading -= 1;
        if (!this.loading) this.release();
      }
    },

    /** Load the gallery anew for what is searched. */
    async find() {
      const asked = this.search;
      const found = await api.jobs({ state: "done", limit: PAGE, search: asked });
      if (asked !== this.search) return;
      found.jobs.forEach((job) => this.put(job));
      this.results = found.jobs.map((job) => job.id);
      this.next = found.next;
    },

    searchSoon() {
      clearTimeout(this.searchTimer);
      this.searching = true;
      this.searchTimer = setTimeout(() => this.searchNow(), SEARCH_MS);
    },

    async searchNow() {
      try {
        await this.find();
        const count = this.results.length + (this.next ? " or more" : "");
        if (this.search) session().say(`${count} videos found`);
      } catch (error) {
        session().tell(error.message);
      } finally {
        this.searching = false;
      }
    },

    async more() {
      const found = await api.jobs({ state: "done", limit: PAGE, search: this.search, before: this.next });
      found.jobs.forEach((job) => this.put(job));
      const known = new Set(this.results);
      this.results.push(...found.jobs.map((job) => job.id).filter((id) => !known.has(id)));
      this.next = found.next;
    },

    // --- events ---
    /** Events that arrive while a list is on its way are newer than the list, so they wait for it. */
    take(kind, data) {
      if (kind === "reset") this.load().catch(() => session().online = false);
      else if (this.loading) this.held.push([kind, data]);
      else this.apply(kind, data);
    },

    release() {
      this.held.splice(0).forEach(([kind, data]) => this.apply(kind, data));
    },

    apply(kind, data) {
      const known = this.byId[data.job_id];
      if (kind === "state" && data.job) {
        const before = known ? known.state : null;
        this.put(data.job);
        if (before !== data.job.state) this.changed(data.job, before);
      } else if (kind === "progress" && known && known.state === "running") {
        Object.assign(known, pick(data, ["stage", "done", "total", "fraction", "eta_seconds"]), { heard: data.at });
      } else if (kind === "preview" && known) {
        known.shown = data.step ?? data.at;
      } else if (kind === "rating" && known) {
        known.rating = data.rating;
      }
    },

    changed(job, before) {
      this.reposition();
      if (job.state === "done" && !this.results.includes(job.id)) {
        if (this.search) this.searchSoon();
        else this.results.unshift(job.id);
      }
      if (before === null) return;
      const name = format.stateName(job.state).toLowerCase();
      const clip = shortened(job.plan.prompt);
      if (job.state === "done") session().tell(`Video ready: ${clip}`);
      else if (RETRIED.includes(job.state)) session().tell(`Job ${name}: ${clip}`);
      else session().say(`Job ${name}: ${clip}`);
    },

    /** Positions of waiting jobs change with every job that leaves; the order of the list tells them. */
    reposition() {
      const waiting = this.active.filter((job) => job.state === "queued");
      waiting.forEach((job, index) => (job.position = index));
    },

    put(job) {
      const known = this.byId[job.id];
      if (known) Object.assign(known, job, { heard: Date.now() / 1000 });
      else this.byId[job.id] = { shown: previewed(job) ? job.done : null, busy: false, wish: null, heard: Date.now() / 1000, ...job };
    },

    // --- words of one job ---
    picture: (job) => pictureUrl(job.picture, 256),
    preview: (job) => (job.shown === null ? pictureUrl(job.picture, 256) : `${job.links.preview}?step=${job.shown}`),
    /** One to five, each lit when a job's rating reaches it. */
    stars: (job) => [1, 2, 3, 4, 5].map((value) => ({ value, on: value <= job.rating })),
    stateName: (job) => format.stateName(job.state),
    when(job) {
      return format.ago(job.finished_at || job.created_at, this.now);
    },
    facts(job) {
      const plan = job.plan;
      return `${format.size(plan.width, plan.height)} · ${format.seconds(plan.num_frames / plan.fps)} · seed ${plan.seed}`;
    },
    progressLine(job) {
      if (job.state === "queued") return job.position ? `Waiting, ${job.position} before it` : "Waiting, next";
      const step = job.total > 1 ? ` · ${job.done} of ${job.total}` : "";
      return format.stageName(job.stage) + step;
    },
    etaLine(job) {
      if (job.state !== "running") return "";
      if (job.eta_seconds === null || job.eta_seconds === undefined) return "Estimating the time left";
      const left = job.eta_seconds - Math.max(0, this.now - job.heard);
      return left > 0 ? `About ${format.span(left)} left` : "Nearly there";
    },
    canRetry: (job) => RETRIED.includes(job.state),
    /** What can be shown of a result that is no video: the animation, or the first of many frames. */
    still: (job) => (job.plan.container === "png" ? job.links.thumbnail : job.links.video),
    isClip: (job) => ["mp4", "webm"].includes(job.plan.container || "mp4"),

    // --- what one does to a job ---
    /** Do it and say so; whether the server agreed. */
    async act(job, action, said) {
      const mine = this.byId[job.id];
      mine.busy = true;
      try {
        const answer = await action(job.id);
        if (answer && answer.id) this.put(answer);
        if (said) session().tell(said);
        return true;
      } catch (error) {
        session().tell(error.message);
        return false;
      } finally {
        mine.busy = false;
      }
    },
    cancel(job) {
      return this.act(job, api.cancel, job.state === "running" ? "It stops after the step in progress." : "Cancelled.");
    },
    retry(job) {
      return this.act(job, api.retry, "It is in the queue again.");
    },
    again(job) {
      return this.act(job, api.again, "Added to the queue with another seed.");
    },
    /** One request at a time: arrow keys choose faster than the server answers, and the last choice is the one that stays. */
    async rate(job, rating) {
      const mine = this.byId[job.id];
      const asking = mine.wish !== null;
      mine.wish = rating;
      if (asking) return;
      let known = mine.rating;
      while (mine.wish !== known) {
        const wish = (mine.rating = mine.wish);
        if (await this.act(job, (id) => api.rate(id, wish), `Rated ${wish} of 5.`)) known = wish;
        else mine.wish = mine.rating = known;
      }
      mine.wish = null;
    },
    async forget(job) {
      await this.act(job, async (id) => {
        await api.forget(id);
        this.results = this.results.filter((one) => one !== id);
        delete this.byId[id];
      }, "Removed from the list. The file stays on the server's disk.");
    },

    // --- sending ---
    /** Keep `entries` until the server has them, then send. Throws the first refusal; a lost connection is none. */
    async send(entries) {
      this.outbox.push(...entries);
      this.keep();
      await this.flush();
    },

    async flush() {
      let refused = null;
      for (const entry of [...this.outbox]) {
        try {
          this.put(await api.submit(entry));
        } catch (error) {
          if (error.lost || error.status === 401) break;
          refused = refused || error;
        }
        this.outbox = this.outbox.filter((one) => one.job_id !== entry.job_id);
        this.keep();
      }
      this.reposition();
      if (refused) throw refused;
    },

    keep() {
      remember("outbox", this.outbox);
    },
  };
}

/** Whether the server has a preview of a job that was running before the page looked. */
const previewed = (job) => job.state === "running" && (job.stage || "").startsWith("denoise") && job.done > 0;
const rank = (job) => (job.state === "running" ? -1e9 : job.position ?? 1e9);
const pick = (data, names) => Object.fromEntries(names.filter((name) => name in data).map((name) => [name, data[name]]));
const shortened = (text) => (text.length > 60 ? `${text.slice(0, 57)}…` : text);
