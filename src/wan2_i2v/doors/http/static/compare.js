/* Up to four videos side by side, as one: they play, pause and move together. The longest of them keeps the time. */

import { remember, recall } from "./storage.js";

const MOST = 4;
const SLACK = 0.06;
/** Seconds by which a video may be off before it is put right; seeking for less would make it stutter. */
const TOLD = [
  ["seed", "Seed"], ["width", "Width"], ["height", "Height"], ["num_frames", "Frames"], ["fps", "Frames per second"],
  ["recipe", "Recipe"], ["num_inference_steps", "Steps"], ["sampler", "Sampler"], ["scheduler", "Scheduler"],
  ["flow_shift", "Shift"], ["guidance", "Guidance"], ["model", "Model"], ["prompt", "Prompt"], ["negative_prompt", "Negative prompt"],
];

export function compare(session, jobs, nextTick) {
  return {
    ids: recall("compared", []),
    open: false,
    playing: false,
    time: 0,
    duration: 0,
    rate: "1",
    again: true,

    // --- choosing ---
    get chosen() {
      return this.ids.map((id) => jobs().byId[id]).filter((job) => job && job.state === "done");
    },
    has(job) {
      return this.ids.includes(job.id);
    },
    full(job) {
      return this.chosen.length >= MOST && !this.has(job);
    },
    toggle(job) {
      const kept = this.chosen.map((one) => one.id).filter((id) => id !== job.id);
      if (!this.has(job)) kept.push(job.id);
      this.ids = kept.slice(0, MOST);
      remember("compared", this.ids);
      session().say(`${this.ids.length} of ${MOST} chosen to compare`);
    },
    clear() {
      this.ids = [];
      remember("compared", this.ids);
    },
    /** Settings in which the videos differ, one row each. */
    get differences() {
      return TOLD.map(([name, label]) => ({ label, values: this.chosen.map((job) => String(job.plan[name] ?? "")) }))
        .filter((row) => new Set(row.values).size > 1);
    },

    // --- the dialog ---
    show() {
      this.open = true;
      this.time = 0;
      this.playing = false;
      nextTick(() => document.getElementById("compare").showModal());
    },
    close() {
      document.getElementById("compare").close();
    },
    closed() {
      this.pause();
      this.open = false;
    },
    videos: () => [...document.querySelectorAll("#compare video")],
    /** The longest video; the others are shorter and wait at their last frame. */
    leader() {
      return this.videos().reduce((best, one) => ((one.duration || 0) > (best.duration || 0) ? one : best));
    },
    measured() {
      this.duration = Math.max(...this.videos().map((one) => one.duration || 0));
      this.seek(this.time);
    },

    // --- playing ---
    playOrPause() {
      if (this.playing) this.pause();
      else this.play();
    },
    async play() {
      if (this.time >= this.duration - 0.001) this.time = 0;
      this.seek(this.time);
      this.videos().forEach((one) => (one.playbackRate = Number(this.rate)));
      this.playing = true;
      await Promise.allSettled(this.videos().filter((one) => this.time < one.duration).map((one) => one.play()));
      if (this.playing) this.follow();
      else this.videos().forEach((one) => one.pause());
    },
    pause() {
      this.playing = false;
      cancelAnimationFrame(this.frame);
      this.videos().forEach((one) => one.pause());
      if (this.open && this.videos().length) this.seek(this.time);
    },
    seek(time) {
      this.time = Math.min(Math.max(0, time), this.duration);
      this.videos().forEach((one) => {
        const to = Math.min(this.time, Math.max(0, (one.duration || 0) - 0.001));
        if (Math.abs(one.currentTime - to) > 0.001) one.currentTime = to;
      });
    },
    /** Once a frame: read the leader's time, put right whoever is off. */
    follow() {
      if (!this.playing) return;
      const leader = this.leader();
      this.time = leader.currentTime;
      if (leader.ended) {
        if (!this.again) return this.pause();
        this.time = 0;
        this.seek(0);
        return this.play();
      }
      for (const one of this.videos()) {
        const ahead = one.currentTime - this.time;
        if (one !== leader && !one.ended && this.time < one.duration && Math.abs(ahead) > SLACK) one.currentTime = this.time;
      }
      this.frame = requestAnimationFrame(() => this.follow());
    },
    setRate() {
      this.videos().forEach((one) => (one.playbackRate = Number(this.rate)));
    },
    scrub(event) {
      if (this.playing) this.pause();
      this.seek(Number(event.target.value));
    },
    step(frames) {
      if (this.playing) this.pause();
      const fps = Math.max(...this.chosen.map((job) => job.plan.fps));
      this.seek((Math.round(this.time * fps) + frames + 0.001) / fps);
    },
    get clock() {
      return `${this.time.toFixed(2)} of ${this.duration.toFixed(2)} s`;
    },
    key(event) {
      if (event.target.closest("button, input, select, a")) return;
      const steps = { ArrowLeft: -1, ArrowRight: 1 };
      if (event.key === " ") this.playOrPause();
      else if (event.key in steps) this.step(steps[event.key]);
      else return;
      event.preventDefault();
    },
  };
}
