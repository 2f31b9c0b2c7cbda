"""The parent of the process that computes: a state machine that claims jobs, feeds the child and survives its death.

    stopped ──start──▶ idle ──batch──▶ busy ──Idle──▶ idle
                        ▲                │ death, silence or stall
                        └──── respawn ◀──┘

Comes in: a store with queued jobs. Goes out: their outcomes, in the store. Runs as a thread of the server (`run`).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from wan2_i2v.errors import Wan2I2VError, from_dict, translate
from wan2_i2v.events import Preview, Progress, Started
from wan2_i2v.jobs import child
from wan2_i2v.jobs.errors import StoreUnavailable, WorkerDied
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.store import Store
from wan2_i2v.workspace import replacing

log = logging.getLogger(__name__)

FALSE_STARTS = 3
"""Deaths in a row before a word about any job until the jobs are blamed for them."""
PREVIEW = "preview.png"
"""The latest preview, in the job's folder."""
TOLD_SECONDS = 0.1
"""Of steps that are faster than this, not all are told: nobody sees more, and each is a write."""
PREVIEW_SECONDS = 1.0
"""Of steps that are faster than this, not all are shown: each picture is flushed to the disk."""


@dataclass(frozen=True)
class Limits:
    """Times in seconds. `silence`: no beat, the process is frozen. `stall`: no event of the core, it hangs."""

    batch: int = 4
    lease: float = 60.0
    beat: float = 2.0
    silence: float = 60.0
    stall: float = 3600.0
    idle_poll: float = 1.0


@dataclass
class _Hand:
    """The batch in hand, until the child says that it is idle. `current` is the job that the child last spoke of."""

    jobs: dict[str, StoredJob] = field(default_factory=dict)
    taken: bool = False
    current: str | None = None
    doing: str = "starting"
    stopping: bool = False
    last_event: float = field(default_factory=time.monotonic)
    told_at: dict[str, float] = field(default_factory=dict)
    shown_at: dict[str, float] = field(default_factory=dict)


class Worker:
    """See the module. `folder_of` gives the folder of a job's artifacts, `lay_out` puts into it what a job begins with."""

    def __init__(
        self,
        store: Store,
        name: str,
        folder_of: Callable[[str], Path],
        limits: Limits | None = None,
        *,
        lay_out: Callable[[StoredJob], None],
    ) -> None:
        self.store, self.name, self.folder_of, self.limits = store, name, folder_of, limits or Limits()
        self._lay_out = lay_out
        self.wake = threading.Event()
        self._ending = threading.Event()
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._hand = _Hand()
        self._last_beat = self._last_lease = time.monotonic()
        self._heard = False
        self._false_starts = 0
        self._message: object | None = None

    @property
    def is_busy(self) -> bool:
        return self._hand.taken

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """Let `run` return; jobs in hand go back into the queue, with all artifacts so far."""
        self._ending.set()
        self.wake.set()

    def run(self) -> None:
        """Work until `stop`. A database that does not answer is waited for."""
        self._end_child()
        self._hand, self._message = _Hand(), None
        recovered = self._patiently(lambda: self.store.recover(self.name))
        if recovered:
            log.info("%s goes on with %s jobs of its predecessor", self.name, recovered)
        while not self._ending.is_set():
            try:
                self._turn()
            except StoreUnavailable as error:
                log.warning("%s", error)
                self._ending.wait(self.limits.idle_poll)
                # Nobody has listened meanwhile: that nothing was heard says nothing of the child.
                self._last_beat = self._hand.last_event = time.monotonic()
        self._end_child()
        with contextlib.suppress(StoreUnavailable):
            for job in self._hand.jobs.values():
                self.store.release(job)

    def _patiently(self, action: Callable[[], int]) -> int:
        while not self._ending.is_set():
            try:
                return action()
            except StoreUnavailable as error:
                log.warning("%s", error)
                self._ending.wait(self.limits.idle_poll)
        return 0

    def _turn(self) -> None:
        """One turn of the machine: claim when idle, else listen to the child and look after its leases."""
        if not self._hand.taken:
            self._claim()
            return
        self._listen()
        if self._message is not None:
            return
        now = time.monotonic()
        if self._hand.jobs and now - self._last_lease > self.limits.beat:
            self._look_after()
        self._check_alive(now)

    def _claim(self) -> None:
        jobs = self.store.claim(self.name, self.limits.batch, self.limits.lease)
        if not jobs:
            self._drain()
            self.wake.wait(self.limits.idle_poll)
            self.wake.clear()
            return
        jobs = [job for job in jobs if self._is_laid_out(job)]
        if not jobs:
            return
        self._hand = _Hand({job.id: job for job in jobs}, taken=True)
        self._last_beat = self._last_lease = time.monotonic()
        works = tuple(child.Work(job.id, str(self.folder_of(job.id)), job.request, job.plan) for job in jobs)
        try:
            self._child().send(child.Batch(works))
        except OSError:
            self._message = self._death("taking a batch")

    def _is_laid_out(self, job: StoredJob) -> bool:
        """Whether a claimed job can begin; if it cannot, it fails."""
        try:
            self._lay_out(job)
        except (Wan2I2VError, OSError) as error:
            self.store.fail(job, translate(error, f"beginning {job.id}"))
            return False
        return True

    def _child(self) -> Connection:
        """The line to a living child; spawned when there is none."""
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._end_child()
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._process = context.Process(target=child.main, args=(theirs,), name=self.name, daemon=True)
            self._process.start()
            theirs.close()
            self._connection, self._heard = ours, False
        return self._connection

    def _drain(self) -> None:
        """Throw the beats of an idle child away, so that the pipe never fills."""
        with contextlib.suppress(EOFError, OSError):
            while self._connection is not None and self._connection.poll():
                self._connection.recv()

    def _listen(self) -> None:
        """Heed what the child has said, or wait a moment for it. What could not be written down is kept for the next turn."""
        if self._message is None:
            self._message = self._received()
        if self._message is not None:
            self._heed(self._message)
            self._message = None

    def _received(self) -> object | None:
        assert self._connection is not None
        try:
            if not self._connection.poll(min(0.2, self.limits.beat)):
                return None
            message: object = self._connection.recv()
        except (EOFError, OSError):
            return self._death(self._hand.doing)
        self._last_beat, self._heard = time.monotonic(), True
        if isinstance(message, child.Said):
            self._hand.last_event = self._last_beat
        return message

    def _heed(self, message: object) -> None:
        """Write down what a message says; done again when the database did not answer."""
        if isinstance(message, child.Said):
            self._tell(message.event)
        elif isinstance(message, child.Outcome):
            self._settle(message)
        elif isinstance(message, child.Idle):
            self._release_rest()
        elif isinstance(message, WorkerDied):
            self._bury(message)

    def _tell(self, event: Any) -> None:
        job = self._hand.jobs.get(event.job_id)
        if job is None:
            return
        if isinstance(event, Started):
            self._hand.current, self._hand.doing = job.id, f"running {event.stage} of {job.id}"
            self.store.progress(job, "progress", {"stage": event.stage, "done": 0, "total": event.total})
        elif isinstance(event, Progress):
            now = time.monotonic()
            if event.done < event.total and now - self._hand.told_at.get(job.id, -TOLD_SECONDS) < TOLD_SECONDS:
                return
            self._hand.told_at[job.id] = now
            self.store.progress(job, "progress", {"stage": event.stage, "done": event.done, "total": event.total})
        elif (
            isinstance(event, Preview)
            and time.monotonic() - self._hand.shown_at.get(job.id, -PREVIEW_SECONDS) >= PREVIEW_SECONDS
        ):
            self._hand.shown_at[job.id] = time.monotonic()
            self._show(job.id, event.png)
            self.store.progress(job, "preview", {"step": event.step})

    def _show(self, job_id: str, png: bytes) -> None:
        """Leave the latest preview in the job's folder; one that cannot be written is no reason to stop."""
        try:
            with replacing(self.folder_of(job_id) / PREVIEW, flush_name=False) as temporary:
                temporary.write_bytes(png)
        except OSError as error:
            log.warning("the preview of %s cannot be written: %s", job_id, error)

    def _settle(self, outcome: child.Outcome) -> None:
        job = self._hand.jobs.get(outcome.id)
        if job is None:
            return
        record = outcome.record
        if record is not None and record["status"] == "done":
            checks = (record.get("verification") or {}).get("checks")
            self.store.finish(job, {"video": record["video"], "checks": checks})
        else:
            error = outcome.error or (record or {}).get("error") or {"message": f"{job.id} failed"}
            self.store.fail(job, from_dict(error))
        del self._hand.jobs[job.id]

    def _release_rest(self) -> None:
        """After a batch: jobs that were stopped go back, those that were cancelled are no longer ours."""
        for job in self._hand.jobs.values():
            self.store.release(job)
        self._hand = _Hand()

    def _look_after(self) -> None:
        """Prolong the leases; when a job is ours no more, stop the batch: the others go on from their artifacts."""
        held = self.store.beat(self._hand.jobs.values(), self.limits.lease)
        self._last_lease = time.monotonic()
        if held != set(self._hand.jobs) and not self._hand.stopping:
            self._hand.stopping = True
            with contextlib.suppress(OSError):
                assert self._connection is not None
                self._connection.send(child.Stop())

    def _check_alive(self, now: float) -> None:
        if not self._hand.taken:
            return
        # A process that is being started beats only when its interpreter is up; until then the longer limit holds.
        silent = self._heard and now - self._last_beat > self.limits.silence
        if silent or now - self._hand.last_event > self.limits.stall:
            self._message = self._death(self._hand.doing, hung=True)

    def _death(self, doing: str, *, hung: bool = False) -> WorkerDied:
        """End what may be left of the child; how it ended."""
        self._end_child()
        error = WorkerDied(None if hung or self._process is None else self._process.exitcode, doing)
        log.error("%s", error)
        self._false_starts = self._false_starts + 1 if self._hand.current is None else 0
        return error

    def _bury(self, error: WorkerDied) -> None:
        """The child is dead or hangs. The job it was at is blamed, the others just wait.

        One that died before it was at any job did so for a reason of its own; when that repeats itself, all are blamed.
        """
        for job in self._hand.jobs.values():
            if job.id == self._hand.current or self._false_starts >= FALSE_STARTS:
                self.store.died(job, error)
            else:
                self.store.release(job)
        self._hand = _Hand()

    def _end_child(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.join(0.5)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
