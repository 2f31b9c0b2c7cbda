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
class _Run:
    """One job's fate so far: `planned` as it was asked for, `job` with a leaner plan where memory ran out."""

    planned: Job
    job: Job
    error: Wan2I2VError | None = None
    seconds: dict[str, float] = field(default_factory=dict)
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
    runs = [_Run(job, job) for job in jobs]
    unfinished = [run for run in runs if not finish.STAGE.done(run.job)]
    for run in unfinished:
        run.job.workspace.sweep()
    try:
        for stage in stages:
            waiting = [run for run in unfinished if _waits(run, stage)]
            waiting.sort(key=lambda run: repr(stage.shares(run.job.plan)))
            for _, group in groupby(waiting, key=lambda run: stage.shares(run.job.plan)):
                _walk(stage, list(group), context)
    finally:
        for run in unfinished[:1]:
            measuring.write(context, run.job.plan.job_id)
    return [_record(run, emit) for run in runs]


def _waits(run: _Run, stage: Stage) -> bool:
    return run.error is None and not stage.done(run.job)


def _walk(stage: Stage, runs: Sequence[_Run], context: Context) -> None:
    """Run one stage for jobs that share its model; where memory runs out, those left go on in a leaner way."""
    while runs:
        shortage = _try(stage, runs, context)
        if shortage is None:
            return
        measuring.shortage(runs[0].job.plan, stage.name, context)
        recovery.free()
        runs = [run for run in runs if _waits(run, stage)]
        for run in runs:
            _step_down(run, stage, shortage, context)
        runs = [run for run in runs if run.error is None]


def _try(stage: Stage, runs: Sequence[_Run], context: Context) -> str | None:
    """One load of the model for these jobs. How memory ran out, None when it did not; loading errors belong to all."""
    measuring.begin(runs[0].job.plan.device)
    try:
        with stage.model(runs[0].job.plan) as model:
            for run in runs:
                _run_one(stage, model, run, context)
    except Cancelled:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            return recovery.reason(error)
        _fail(runs, translate(error, f"loading the model for {stage.name}"))
    return None


def _run_one(stage: Stage, model: object, run: _Run, context: Context) -> None:
    plan, begin = run.job.plan, time.perf_counter()
    context.checkpoint(run.job)
    context.emit(Started(plan.job_id, stage.name, stage.steps(plan)))
    measuring.begin(plan.device)
    try:
        stage.run(model, run.job, context)
    except Cancelled:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        _fail([run], translate(error, f"running {stage.name} of {plan.job_id}"))
    finally:
        run.seconds[stage.name] = run.seconds.get(stage.name, 0.0) + time.perf_counter() - begin
    if run.error is None:
        measuring.note(plan, stage.name, time.perf_counter() - begin, context, run.planned.plan)


def _step_down(run: _Run, stage: Stage, shortage: str, context: Context) -> None:
    try:
        run.job, entry = recovery.step_down(run.job, stage.name, shortage, run.recoveries, context)
    except OutOfMemory as error:
        _fail([run], error)
    else:
        run.recoveries += (entry,)


def _fail(runs: Iterable[_Run], error: Wan2I2VError) -> None:
    for run in runs:
        run.error = run.error or error


def _record(run: _Run, emit: Emit) -> Record:
    record = finish.close(run.planned, run.error, run.seconds, run.recoveries)
    detail = record.video if record.status == "done" else str(run.error)
    emit(Finished(run.planned.plan.job_id, record.status, detail or ""))
    return record
