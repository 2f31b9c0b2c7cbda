"""A process of the cluster, with one card or none: takes one task at a time and keeps its model open for the next.

Comes in: `Task`, with the parcels that its stage needs. Goes out: `Outcome` and the parcel that the stage made. While it works it
answers `hear`, which takes events away and brings the word to stop. Nothing of a job stays here.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wan2_i2v import pipeline
from wan2_i2v.cluster import parcels
from wan2_i2v.cluster.kept import Kept
from wan2_i2v.cluster.parcels import Parcel
from wan2_i2v.cluster.storage import Storage
from wan2_i2v.errors import Cancelled, Wan2I2VError, translate
from wan2_i2v.events import Event
from wan2_i2v.memory import StagePeak
from wan2_i2v.models.located import located
from wan2_i2v.pipeline import Fate
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Recovery
from wan2_i2v.rows import ModelFiles
from wan2_i2v.stages import measuring
from wan2_i2v.stages.base import Context, Job, Stage
from wan2_i2v.workspace import Workspace


@dataclass(frozen=True)
class Task:
    """One stage of one job: its plan, with the `peaks` and `recoveries` that it has by now. `storage`: see `Storage`."""

    stage: str
    plan: JobPlan
    peaks: tuple[StagePeak, ...]
    recoveries: tuple[Recovery, ...] = ()
    storage: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a task ended: `error` of the job's own, if any; `stopped` when it was told to. The rest is the job's fate:
    `peaks` are the planned ones as they are by now, `measured` those in GiB that were seen."""

    error: dict[str, Any] | None
    stopped: bool
    seconds: dict[str, float]
    measured: dict[str, float]
    peaks: tuple[StagePeak, ...]
    recoveries: tuple[Recovery, ...]
    events: tuple[Event, ...]


class Worker:
    """The actor. Its methods run in threads of their own: `work` in one, `hear` in another."""

    def __init__(self, stages: Sequence[Stage] | None = None) -> None:
        self._stages = {stage.name: stage for stage in (pipeline.STAGES if stages is None else stages)}
        self._kept = Kept()
        self._found: dict[Hashable, ModelFiles] = {}
        self._said: deque[Event] = deque()
        self._stop = threading.Event()

    def greet(self) -> int:
        """The process's id: it is up and has imported what it needs."""
        return os.getpid()

    def hear(self, stop: bool) -> tuple[Event, ...]:
        """What was said since the last time. `stop`: leave the task after the step in progress."""
        if stop:
            self._stop.set()
        said = []
        while self._said:
            said.append(self._said.popleft())
        return tuple(said)

    def work(self, task: Task, *brought: Parcel) -> tuple[Outcome, Parcel]:
        """Run a stage. Errors of the job are part of the outcome; what this raises is the worker's own trouble."""
        self._stop.clear()
        with tempfile.TemporaryDirectory(prefix="wan2-i2v-", ignore_cleanup_errors=True) as folder:
            workspace = Workspace(Path(folder))
            now = task.plan.model_copy(update={"peaks": task.peaks})
            fate = Fate(Job(task.plan, workspace), Job(now, workspace), recoveries=task.recoveries)
            stopped, made = False, Parcel()
            try:
                self._run(task, fate, brought)
            except Cancelled:
                stopped = True
            except Exception as error:
                fate.error = _troubled(error, task)
            try:
                made = self._made(task, fate)
            except Exception as error:
                fate.error = fate.error or _troubled(error, task)
            return self._outcome(fate, stopped), made

    def _run(self, task: Task, fate: Fate, brought: Sequence[Parcel]) -> None:
        fate.job = replace(fate.job, plan=self._located(fate.job.plan))
        for parcel in brought:
            parcels.unpack(parcel, fate.job.workspace)
        stage = self._stages[task.stage]
        context = Context(self._said.append, self._stop.is_set)
        try:
            pipeline.walk([fate], [replace(stage, model=lambda plan: self._kept.lent(stage, plan))], context)
        finally:
            measuring.write(context, task.plan.job_id)

    def _located(self, plan: JobPlan) -> JobPlan:
        """The plan with its model's files here. Looked for once for all jobs that share them: headers take long to read."""
        key = (plan.model, plan.model_files, plan.model_fingerprint, plan.loras)
        if key not in self._found:
            files = located(plan).model_files
            assert files is not None
            self._found[key] = files
        return plan.model_copy(update={"model_files": self._found[key]})

    def _made(self, task: Task, fate: Fate) -> Parcel:
        """What the stage left, also of a stopped one: latents after its last step."""
        artifact = parcels.makes(task.stage)
        made = parcels.pack(fate.job.workspace, task.plan, artifact)
        if task.storage and made and fate.error is None:
            Storage(task.storage).save(task.plan, artifact, made)
        return made

    def _outcome(self, fate: Fate, stopped: bool) -> Outcome:
        error = None if fate.error is None else fate.error.to_dict()
        peaks = fate.job.plan.peaks
        return Outcome(error, stopped, fate.seconds, fate.peaks, peaks, fate.recoveries, self.hear(stop=False))


def _troubled(error: Exception, task: Task) -> Wan2I2VError:
    return translate(error, f"running {task.stage} of {task.plan.job_id} in the cluster")
