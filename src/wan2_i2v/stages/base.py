"""What a stage is. Imported by every stage and by the pipeline.

A stage names the model that it needs, says whether a job has its artifact already, and turns one job's artifacts into
the next. Jobs whose `shares` value is equal are run under one load of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from wan2_i2v.errors import Cancelled, CheckpointError
from wan2_i2v.events import Emit, Progress
from wan2_i2v.measured import Sample
from wan2_i2v.memory import StagePeak
from wan2_i2v.models.components import Source
from wan2_i2v.plan import JobPlan
from wan2_i2v.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """One clip on its way: the plan and where its artifacts are."""

    plan: JobPlan
    workspace: Workspace


@dataclass(frozen=True)
class Context:
    """How a stage speaks (`emit`) and listens (`cancelled`) while it runs."""

    emit: Emit
    cancelled: Callable[[], bool]
    reached: dict[tuple[str, str], int] = field(default_factory=dict)
    """Finished steps by job id and stage."""
    samples: list[Sample] = field(default_factory=list)
    """What stages took, for the table of measurements."""

    def checkpoint(self, job: Job) -> None:
        """Raise Cancelled when the user asked to stop; called between steps only, so nothing is left half done."""
        if self.cancelled():
            raise Cancelled(f"{job.plan.job_id} was cancelled. Continue with: wan2-i2v resume {job.workspace.root}")

    def progress(self, job: Job, stage: str, done: int, total: int) -> None:
        self.reached[job.plan.job_id, stage] = done
        self.emit(Progress(job.plan.job_id, stage, done, total))


@dataclass(frozen=True)
class Stage:
    """One step of the way from picture to video; see the module's docstring."""

    name: str
    run: Callable[[Any, Job, Context], None]
    done: Callable[[Job], bool]
    steps: Callable[[JobPlan], int]
    model: Callable[[JobPlan], AbstractContextManager[Any]]
    shares: Callable[[JobPlan], Hashable]


@contextlib.contextmanager
def no_model(plan: JobPlan) -> Iterator[None]:
    """For stages that need no weights."""
    yield None


def source_of(plan: JobPlan, stage: str | None = None) -> Source:
    """The weights that a plan names, held as the memory plan says for `stage`; all resident without one.

    Raises CheckpointError for a plan of a model whose files are not here.
    """
    if plan.model_files is None:
        raise CheckpointError(
            f"the files of model {plan.model} are not here. Get them: wan2-i2v models pull {plan.model}"
        )
    loras = tuple(lora for lora in plan.loras if stage == f"denoise {lora.expert}")
    source = Source(plan.model_files, plan.device, plan.dtype, loras=loras)
    if stage is not None and stage.startswith("denoise"):
        source = replace(source, attention=plan.attention, compiled=plan.compiled)
    peak = peak_of(plan, stage)
    if peak is None:
        return source
    source = replace(source, residency=peak.residency, resident_blocks=peak.resident_blocks)
    if not peak.chunk_tokens:
        return source
    return replace(source, chunk_tokens=peak.chunk_tokens, head_groups=peak.head_groups)


def peak_of(plan: JobPlan, stage: str | None) -> StagePeak | None:
    """How the memory plan has a stage run; None for stages without weights."""
    return next((peak for peak in plan.peaks if peak.stage == stage), None)


def one_step(plan: JobPlan) -> int:
    return 1
