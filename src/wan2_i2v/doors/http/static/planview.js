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
      return `${this.plan.num_frames} frames at ${format.number(this.plan.fps)} fps`;
    },
    get sampling() {
      const plan = this.plan;
      return `${plan.recipe}: ${plan.steps.length} steps, ${plan.sampler}, ${plan.scheduler}, shift ${format.number(plan.flow_shift)}`;
    },
    /** Of all stages, loading included; only what was measured on such a machine is told without a doubt. */
    get time() {
      const times = this.plan.times;
      const total = times.reduce((sum, one) => sum + one.seconds + one.loading_s, 0);
      const measured = times.every((one) => one.basis === "measured");
      return `About ${format.span(total)}, ${measured ? "as measured before" : "a rough estimate"}`;
    },
    /** Without what stands beside the prompts already, as hints. */
    get warnings() {
      const told = this.plan.hints.map((one) => `${one.field}: ${one.message}`);
      return this.plan.warnings.filter((text) => !told.some((hint) => text.startsWith(hint)));
    },
    get seed() {
      return compose().form.seed.trim() ? String(this.plan.seed) : "drawn when the job is made";
    },
    get peak() {
      return Math.max(...this.plan.peaks.map((one) => one.memory_gib));
    },
    get total() {
      const { total_bytes: card, ram_bytes: ram } = session().info.device;
      return (card || ram) / 2 ** 30;
    },
    get share() {
      return Math.min(1, this.peak / this.total);
    },
    get memoryName() {
      return session().info.device.total_bytes ? "Memory of the card" : "Memory";
    },
    get memory() {
      return `${format.gib(this.peak * 2 ** 30)} of ${format.gib(this.total * 2 ** 30)}`;
    },
    get level() {
      if (this.share > 0.97) return "full";
      return this.share > 0.85 ? "near" : "fits";
    },
    stage: (peak) => format.stageName(peak.stage),
    stageMemory: (peak) => `${format.gib(peak.memory_gib * 2 ** 30)}, weights ${peak.residency}`,
    width(peak) {
      return { width: `${Math.min(100, (100 * peak.memory_gib) / this.total)}%` };
    },
  };
}
