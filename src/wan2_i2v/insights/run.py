"""One run as the insights keep it: `Run`, made from a record by `run_of`. No picture, no path, no name of a user.

Prompts are kept for the user's own eyes; sharing leaves them out unless asked.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

import wan2_i2v
from wan2_i2v.plan import JobPlan
from wan2_i2v.presets import PROMPT_PRESETS
from wan2_i2v.record import Check, Record, State
from wan2_i2v.request import is_guided

Guidance = Literal["none", "NAG", "CFG", "CFG and NAG"]
OUT_OF_MEMORY = "out_of_memory"


class Verdict(BaseModel):
    """One check of the clip; `value` where it is a number."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    state: State
    value: float | None


class Run(BaseModel):
    """One clip that was made or failed. `at` is seconds since 1970, memory in GiB, `error` the code of the error.

    `predicted_gib` and `peak_gib` (None where none was measured) are the largest of all stages, `predicted` and `peaks` those of
    each. What earlier versions did not keep of a plan is None.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    at: float
    version: str
    device: str
    memory_gib: float
    dtype: str
    model: str
    preset: str
    recipe: str
    sampler: str
    scheduler: str
    steps: int
    guidance: Guidance
    guidance_scale_high: float
    nag_scale: float | None
    width: int
    height: int
    num_frames: int
    model_frames: int
    residency: str
    predicted_gib: float
    peak_gib: float | None
    seconds: dict[str, float]
    recoveries: int
    status: Literal["done", "failed"]
    error: str | None
    verdicts: tuple[Verdict, ...]
    peaks: dict[str, float] = {}
    predicted: dict[str, float] = {}
    seed: int | None = None
    fps: float | None = None
    flow_shift: float | None = None
    boundary_ratio: float | None = None
    guidance_scale_low: float | None = None
    attention: str | None = None
    crop: str | None = None
    container: str | None = None
    loras: int | None = None
    allow_speech: bool | None = None
    rating: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None

    @property
    def fitted(self) -> bool | None:
        """Whether memory sufficed from the start to the end; None for a run that failed for another reason."""
        if self.error == OUT_OF_MEMORY or self.recoveries:
            return False
        return True if self.status == "done" else None


def run_of(record: Record, folder: Path, device: str, memory_gib: float) -> Run:
    """The run of a job that ended, in its `folder`, on a device of this label and memory.

    The same job run on to its end later is the same run.
    """
    plan = record.plan
    checks = record.verification.checks if record.verification is not None else ()
    where = f"{folder.absolute()}\n{plan.fingerprint()}"
    largest = max(plan.peaks, key=lambda peak: peak.memory_gib, default=None)
    denoise = next((peak for peak in plan.peaks if peak.stage.startswith("denoise")), largest)
    return Run(
        id=hashlib.sha256(where.encode()).hexdigest()[:32],
        at=time.time(),
        version=wan2_i2v.__version__,
        device=device,
        memory_gib=round(memory_gib, 2),
        dtype=plan.dtype,
        model=plan.model,
        preset=_preset(plan.prompt),
        recipe=plan.recipe,
        sampler=plan.sampler,
        scheduler=plan.scheduler,
        steps=len(plan.steps),
        guidance=guidance_of(plan),
        guidance_scale_high=plan.steps[0].guidance_scale,
        nag_scale=None if plan.nag is None else plan.nag.scale,
        width=plan.width,
        height=plan.height,
        num_frames=plan.num_frames,
        model_frames=plan.model_frames,
        residency="" if denoise is None else denoise.residency,
        predicted_gib=0.0 if largest is None else round(largest.memory_gib, 3),
        peak_gib=max(record.peaks.values(), default=None),
        seconds={stage: round(seconds, 3) for stage, seconds in record.seconds.items()},
        recoveries=len(record.recoveries),
        status=record.status,
        error=None if record.error is None else str(record.error.get("code", "error")),
        verdicts=tuple(_verdict(check) for check in checks),
        peaks=record.peaks,
        predicted={peak.stage: round(peak.memory_gib, 3) for peak in plan.peaks},
        seed=plan.seed,
        fps=plan.fps,
        flow_shift=plan.flow_shift,
        boundary_ratio=plan.boundary_ratio,
        guidance_scale_low=plan.steps[-1].guidance_scale,
        attention=plan.attention,
        crop=plan.crop,
        container=plan.container,
        loras=len(plan.loras),
        allow_speech=plan.allow_speech,
        prompt=plan.prompt,
        negative_prompt=plan.negative_prompt,
    )


def guidance_of(plan: JobPlan) -> Guidance:
    guided = any(is_guided(step.guidance_scale) for step in plan.steps)
    if plan.nag is None:
        return "CFG" if guided else "none"
    return "CFG and NAG" if guided else "NAG"


def _preset(prompt: str) -> str:
    """The preset that a prompt is word for word; empty for the user's own."""
    return next((one.name for one in PROMPT_PRESETS.values() if prompt in (one.prompt, one.verbatim)), "")


def _verdict(check: Check) -> Verdict:
    value = check.value if isinstance(check.value, int | float) else None
    return Verdict(name=check.name, passed=check.passed, state=check.state, value=value)
