/* The plan as the panel beside the form shows it. Comes in: the plan, the server's facts. Goes out: lines of text. */

import * as format from "./format.js";

export function planView(session, compose) {
  return {
    get plan() {
      return compose().plan;
    },
    get size() {
      return format.size(this.plan.width, this.plan.height);
    },
    get aspect() {
      return format.aspect(this.plan.width, this.plan.height);
    },
    get duration() {
      return format.seconds(this.plan.duration_s);
    },
    get frames() {
      return `${this.plan.num_frames} frames at ${format.number(this.plan.fps)} per second`;
    },
    get sampling() {
      const plan = this.plan;
      return `${plan.recipe}: ${plan.steps.length} steps, ${plan.sampler}, ${plan.scheduler}, shift ${format.number(plan.flow_shift)}`;
    },
    get seed() {
      return compose().form.seed.trim() ? String(this.plan.seed) : "drawn when the job is made";
    },
    get peak() {
      return Math.max(...this.plan.peaks.map((one) => one.memory_gib));
    },
    get total() {
      const bytes = session().info.device.total_bytes;
      return bytes ? bytes / 2 ** 30 : null;
    },
    get share() {
      return this.total ? Math.min(1, this.peak / this.total) : 0;
    },
    get memory() {
      const peak = format.gib(this.peak * 2 ** 30);
      return this.total ? `${peak} of ${format.gib(this.total * 2 ** 30)}` : peak;
    },
    get level() {
      if (this.share > 0.97) return "full";
      return this.share > 0.85 ? "near" : "fits";
    },
    stage: (peak) => format.stageName(peak.stage),
    stageMemory: (peak) => `${format.gib(peak.memory_gib * 2 ** 30)}, weights ${peak.residency}`,
    width(peak) {
      const whole = this.total || this.peak;
      return { width: `${Math.min(100, (100 * peak.memory_gib) / whole)}%` };
    },
  };
}
