"""The stages in order, walked stage by stage for all jobs together: the file to read first.

Comes in: plans. Goes out: one record per plan, in order. Each stage loads its model once for all jobs that share it and
frees it before the next stage; each job's artifacts are on disk when its stage ends, so running the same plans again
continues where they stopped. A job that fails is recorded and left out; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from wan2_i2v.errors import Cancelled, Wan2I2VError, translate
from wan2_i2v.events import Emit, Finished, Metric, Started, ignore
from wan2_i2v.record import Record
from wan2_i2v.stages import decode, denoise, finish, image, preprocess, text, verify
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
    """One job's fate so far."""

    job: Job
    error: Wan2I2VError | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def run(jobs: Sequence[Job], *, emit: Emit = ignore, cancelled: Callable[[], bool] = lambda: False) -> list[Record]:
    """Take every job through every stage that it has not finished yet.

    Raises Cancelled between two steps once `cancelled()` is true; all artifacts so far stay for a later run.
    """
    context = Context(emit, cancelled)
    runs = [_Run(job) for job in jobs]
    unfinished = [run for run in runs if not finish.STAGE.done(run.job)]
    for run in unfinished:
        run.job.workspace.sweep()
    for stage in STAGES:
        waiting = [run for run in unfinished if run.error is None and not stage.done(run.job)]
        waiting.sort(key=lambda run: repr(stage.shares(run.job.plan)))
        for _, group in groupby(waiting, key=lambda run: stage.shares(run.job.plan)):
            _walk(stage, list(group), context)
    return [_record(run, emit) for run in runs]


def _walk(stage: Stage, runs: Sequence[_Run], context: Context) -> None:
    """Run one stage for jobs that share its model; loading errors belong to all of them."""
    try:
        with stage.model(runs[0].job.plan) as model:
            for run in runs:
                _run_one(stage, model, run, context)
    except Cancelled:
        raise
    except Exception as error:
        _fail(runs, translate(error, f"loading the model for {stage.name}"))


def _run_one(stage: Stage, model: object, run: _Run, context: Context) -> None:
    plan, begin = run.job.plan, time.perf_counter()
    context.checkpoint(run.job)
    context.emit(Started(plan.job_id, stage.name, stage.steps(plan)))
    try:
        stage.run(model, run.job, context)
    except Cancelled:
        raise
    except Exception as error:
        _fail([run], translate(error, f"running {stage.name} of {plan.job_id}"))
    run.seconds[stage.name] = time.perf_counter() - begin
    context.emit(Metric(plan.job_id, f"{stage.name} time", run.seconds[stage.name], "s"))


def _fail(runs: Iterable[_Run], error: Wan2I2VError) -> None:
    for run in runs:
        run.error = run.error or error


def _record(run: _Run, emit: Emit) -> Record:
    record = finish.close(run.job, run.error, run.seconds)
    detail = record.video if record.status == "done" else str(run.error)
    emit(Finished(run.job.plan.job_id, record.status, detail or ""))
    return record
