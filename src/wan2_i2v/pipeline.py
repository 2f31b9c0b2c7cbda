"""The stages in order, walked stage by stage for all jobs together: the file to read first.

Comes in: plans. Goes out: one record per plan, in order. Each stage loads its model once for all jobs that share it and
frees it before the next stage; each job's artifacts are on disk when its stage ends, so running the same plans again
continues where they stopped. Where memory runs out, a stage goes on from its last artifact in a leaner way. A job that
fails is recorded and left out; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from wan2_i2v.errors import Cancelled, OutOfMemory, Wan2I2VError, is_out_of_memory, translate
from wan2_i2v.events import Emit, Finished, Started, ignore
from wan2_i2v.models import freeing
from wan2_i2v.record import Record, Recovery
from wan2_i2v.stages import decode, denoise, finish, image, measuring, preprocess, recovery, text, verify
from wan2_i2v.stages.base import Context, Job, Stage

STAGES: tuple[Stage, ...] = (
    preprocess.STAGE,
    text.STAGE,
    image.STAGE,
    *denoise.STAGES,
    decode.STAGE,
    verify.STAGE,
    finish.STAGE,
)


@dataclass
class Fate:
    """What became of one job so far: `planned` as it was asked for, `job` with a leaner plan where memory ran out."""

    planned: Job
    job: Job
    error: Wan2I2VError | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    recoveries: tuple[Recovery, ...] = ()


def run(
    jobs: Sequence[Job],
    *,
    stages: Sequence[Stage] = STAGES,
    emit: Emit = ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """Take every job through every one of `stages` that it has not finished yet; a backend may have others than these.

    Raises Cancelled between two steps once `cancelled()` is true; all artifacts so far stay for a later run.
    """
    context = Context(emit, cancelled)
    fates = [Fate(job, job) for job in jobs]
    unfinished = begin(fates)
    try:
        walk(unfinished, stages, context)
    finally:
        for fate in unfinished[:1]:
            measuring.write(context, fate.job.plan.job_id)
    return [close(fate, emit) for fate in fates]


def begin(fates: Sequence[Fate]) -> list[Fate]:
    """Those whose job is not over yet, rid of what a killed run left half written."""
    unfinished = [fate for fate in fates if not finish.STAGE.done(fate.job)]
    for fate in unfinished:
        fate.job.workspace.sweep()
    return unfinished


def walk(fates: Sequence[Fate], stages: Sequence[Stage], context: Context) -> None:
    """Take jobs through `stages`, one stage after the other for all of them. Raises Cancelled, as `run`."""
    for stage in stages:
        waiting = [fate for fate in fates if _waits(fate, stage)]
        waiting.sort(key=lambda fate: repr(stage.shares(fate.job.plan)))
        for _, group in groupby(waiting, key=lambda fate: stage.shares(fate.job.plan)):
            _walk(stage, list(group), context)


def close(fate: Fate, emit: Emit) -> Record:
    """Write how a job ended and say so; only for one that failed or went through every stage."""
    record = finish.close(fate.planned, fate.error, fate.seconds, fate.recoveries, fate.peaks)
    detail = record.video if record.status == "done" else str(fate.error)
    emit(Finished(fate.planned.plan.job_id, record.status, detail or ""))
    return record


def _waits(fate: Fate, stage: Stage) -> bool:
    return fate.error is None and not stage.done(fate.job)


def _walk(stage: Stage, fates: Sequence[Fate], context: Context) -> None:
    """Run one stage for jobs that share its model; where memory runs out, those left go on in a leaner way."""
    while fates:
        shortage = _try(stage, fates, context)
        if shortage is None:
            return
        measuring.shortage(fates[0].job.plan, stage.name, context, shortage)
        freeing.free()
        fates = [fate for fate in fates if _waits(fate, stage)]
        for fate in fates:
            _step_down(fate, stage, shortage, context)
        fates = [fate for fate in fates if fate.error is None]


def _try(stage: Stage, fates: Sequence[Fate], context: Context) -> str | None:
    """One load of the model for these jobs. How memory ran out, None when it did not; loading errors belong to all."""
    measuring.begin(fates[0].job.plan, stage.name)
    try:
        with stage.model(fates[0].job.plan) as model:
            for fate in fates:
                _run_one(stage, model, fate, context)
    except Cancelled:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            return recovery.reason(error)
        _fail(fates, translate(error, f"loading the model for {stage.name}"))
    return None


def _run_one(stage: Stage, model: object, fate: Fate, context: Context) -> None:
    plan, started = fate.job.plan, time.perf_counter()
    context.checkpoint(fate.job)
    context.emit(Started(plan.job_id, stage.name, stage.steps(plan)))
    measuring.begin(plan, stage.name)
    try:
        stage.run(model, fate.job, context)
    except Cancelled:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        _fail([fate], translate(error, f"running {stage.name} of {plan.job_id}"))
    finally:
        fate.seconds[stage.name] = fate.seconds.get(stage.name, 0.0) + time.perf_counter() - started
    if fate.error is None:
        peak = measuring.note(plan, stage.name, time.perf_counter() - started, context, fate.planned.plan)
        fate.peaks |= {} if peak is None else {stage.name: peak}


def _step_down(fate: Fate, stage: Stage, shortage: str, context: Context) -> None:
    try:
        fate.job, entry = recovery.step_down(fate.job, stage.name, shortage, fate.recoveries, context)
    except OutOfMemory as error:
        _fail([fate], error)
    else:
        fate.recoveries += (entry,)


def _fail(fates: Iterable[Fate], error: Wan2I2VError) -> None:
    for fate in fates:
        fate.error = fate.error or error
