"""The process that owns the device: takes batches of planned jobs from its parent and runs them.

Spoken over a pipe. In: `Batch`, and `Stop` for the batch in hand. Out: `Said` (an event of the core), `Beat` once a
second, `Outcome` per job, `Idle` after a batch. It ends at once when the pipe closes: its parent is gone, and all that
is finished is on disk. Imported by the worker, which spawns `main`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from wan2_i2v.errors import Cancelled, JobNotFound, Wan2I2VError, translate
from wan2_i2v.events import Event

BEAT_SECONDS = 1.0
NICENESS = 15
FOLDER_WAIT_SECONDS = 30.0
"""How long to wait for a job's folder: a child of a killed server needs a moment to end."""


@dataclass(frozen=True)
class Work:
    """One planned job: its id, its folder, which holds its pictures, and request and plan as JSON."""

    id: str
    folder: str
    request: str
    plan: str


@dataclass(frozen=True)
class Batch:
    works: tuple[Work, ...]


@dataclass(frozen=True)
class Stop:
    """Leave the batch after the step in progress."""


@dataclass(frozen=True)
class Said:
    event: Event


@dataclass(frozen=True)
class Beat:
    pass


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `record` is the core's, JSON-ready; `error` is set when the job could not even be run."""

    id: str
    record: dict[str, Any] | None
    error: dict[str, Any] | None


@dataclass(frozen=True)
class Idle:
    """The batch is over. Jobs without an outcome were stopped and go on later."""


class _Line:
    """The child's end of the pipe, shared by its threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self.batches: list[Batch] = []
        self.arrived = threading.Condition()
        self.stopping = threading.Event()

    def say(self, message: object) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._connection.send(message)

    def listen(self) -> None:
        """Receive until the parent is gone, then end this process, whatever it is doing."""
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, Stop):
                self.stopping.set()
            else:
                with self.arrived:
                    # Here and not when the batch is begun: a Stop may follow it while the models are being imported.
                    self.stopping.clear()
                    self.batches.append(message)
                    self.arrived.notify()

    def beat(self) -> None:
        while True:
            self.say(Beat())
            threading.Event().wait(BEAT_SECONDS)

    def next_batch(self) -> Batch:
        with self.arrived:
            self.arrived.wait_for(lambda: self.batches)
            return self.batches.pop(0)


def main(connection: Connection) -> None:
    """The child's whole life."""
    # Ctrl-C in a terminal reaches the whole group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        # Answers come first: a submission needs the processor for milliseconds, a job for minutes.
        os.nice(NICENESS)
    line = _Line(connection)
    for task in (line.listen, line.beat):
        threading.Thread(target=task, daemon=True).start()
    while True:
        batch = line.next_batch()
        _run(batch, line)
        line.say(Idle())


def _run(batch: Batch, line: _Line) -> None:
    from wan2_i2v import backends
    from wan2_i2v.stages.base import Job

    with contextlib.ExitStack() as folders:
        jobs: list[Job] = []
        for work in batch.works:
            try:
                jobs.append(folders.enter_context(_opened(work)))
            except (Wan2I2VError, OSError, ValueError) as error:
                problem = translate(error, f"opening {work.folder}")
                line.say(Outcome(work.id, None, problem.to_dict()))
        try:
            records = backends.run(jobs, emit=lambda event: line.say(Said(event)), cancelled=line.stopping.is_set)
        except Cancelled:
            return
        for record in records:
            line.say(Outcome(record.job_id, record.model_dump(mode="json"), None))


@contextlib.contextmanager
def _opened(work: Work) -> Iterator[Any]:
    """A job for this process alone, with request and plan in its folder, when its video has a place to go."""
    from filelock import FileLock, Timeout

    from wan2_i2v import places
    from wan2_i2v.plan import JobPlan
    from wan2_i2v.request import GenerateRequest
    from wan2_i2v.stages.base import Job
    from wan2_i2v.workspace import Workspace

    folder = Path(work.folder)
    workspace = Workspace(folder)
    if not folder.is_dir():
        raise JobNotFound(f"{folder} is gone.")
    lock = FileLock(folder / ".lock", timeout=FOLDER_WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise Wan2I2VError(f"another process is running {folder.name}; wait for it, then retry.") from None
    try:
        workspace.create(GenerateRequest.model_validate_json(work.request), JobPlan.model_validate_json(work.plan))
        plan = workspace.load_plan()
        places.check_writable(plan)
        yield Job(plan, workspace)
    finally:
        lock.release()
