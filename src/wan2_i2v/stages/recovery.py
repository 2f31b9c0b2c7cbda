"""Out of memory, and on in a leaner way: what the pipeline does between two tries of a stage.

Comes in: the error and the jobs whose stage it stopped. Goes out: the same jobs with a leaner plan for that stage (and
for the other expert, which is as large), and what to put on record. Imported by the pipeline.
"""

from __future__ import annotations

import traceback
from dataclasses import replace

from wan2_i2v import ladder
from wan2_i2v.errors import OutOfMemory
from wan2_i2v.events import Log
from wan2_i2v.memory import StagePeak
from wan2_i2v.record import Recovery
from wan2_i2v.stages.base import Context, Job, peak_of


def reason(error: BaseException) -> str:
    """The error in one line, and its memory given back: frames of a traceback hold what they were computing with."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    return text


def step_down(job: Job, stage: str, why: str, tried: tuple[Recovery, ...], context: Context) -> tuple[Job, Recovery]:
    """The job with the next leaner way for `stage`, and the entry for its record. `tried`: its recoveries so far.

    Raises OutOfMemory when there is no leaner way.
    """
    peak = peak_of(job.plan, stage)
    leaner = None if peak is None else ladder.leaner(peak, is_cuda=job.plan.device.startswith("cuda"))
    again = peak is None and not any(recovery.stage == stage for recovery in tried)
    if leaner is None and not again:
        raise OutOfMemory(_exhausted(job, stage, why, tried))
    after = ladder.AGAIN if leaner is None else ladder.describe(leaner)
    step = context.reached.get((job.plan.job_id, stage), 0) + 1
    recovery = Recovery(stage=stage, step=step, before=ladder.describe(peak), after=after, reason=why)
    message = f"memory ran out in {stage}, step {step} ({recovery.before}); going on with {after}"
    context.emit(Log(job.plan.job_id, "warning", message))
    return (job if leaner is None else _with_peak(job, leaner)), recovery


def _with_peak(job: Job, leaner: StagePeak) -> Job:
    """The job planned anew for one stage; both experts are of one size, so they go down together."""
    hold = leaner.model_dump(include={"residency", "chunk_tokens", "head_groups", "resident_blocks", "strips"})
    together = ("denoise",) if leaner.kind == "denoise" else ()
    peaks = tuple(
        peak.model_copy(update=hold) if peak.stage == leaner.stage or peak.kind in together else peak
        for peak in job.plan.peaks
    )
    return replace(job, plan=job.plan.model_copy(update={"peaks": peaks}))


def _exhausted(job: Job, stage: str, why: str, tried: tuple[Recovery, ...]) -> str:
    ways = [recovery.before for recovery in tried if recovery.stage == stage]
    peak = peak_of(job.plan, stage)
    last = ladder.AGAIN if peak is None else ladder.describe(peak)
    return (
        f"out of memory in {stage} of {job.plan.job_id}, in every way to run it ({'; '.join([*ways, last])}; {why}). "
        "Close other programs that use the memory, then `wan2-i2v resume`; or choose a smaller size or fewer frames."
    )
