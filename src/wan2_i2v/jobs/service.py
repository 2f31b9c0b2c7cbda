"""The only object a door touches: it plans and stores jobs, runs the worker, and knows where results are.

Comes in: request fields and a picture's bytes. Goes out: stored jobs. A picture is flushed before a job's row is written, and
the row, with request and plan, is on disk before `submit` returns. The job's folder is not: what a power cut takes of it is
made again from the row, the picture when a service starts, request and plan by the process that begins the job.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import secrets
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wan2_i2v import backends, devices, measured, pictures, places
from wan2_i2v.backends import comfyui, ray
from wan2_i2v.backends.base import Wanted
from wan2_i2v.errors import InvalidRequest, Wan2I2VError, translate
from wan2_i2v.insights import noting
from wan2_i2v.jobs.drafts import Drafts
from wan2_i2v.jobs.errors import JobConflict
from wan2_i2v.jobs.job import NewJob, StoredJob
from wan2_i2v.jobs.lock import owning
from wan2_i2v.jobs.shelf import Shelf
from wan2_i2v.jobs.store import Store
from wan2_i2v.jobs.worker import Limits, Worker
from wan2_i2v.models import catalog
from wan2_i2v.models.lora import choosing
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import BackendName, GenerateRequest
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import Workspace, make_folder

log = logging.getLogger(__name__)

MAX_DRAWN_SEED = 2**32
HOUSEKEEPING_SECONDS = 1.0
SWEEP_SECONDS = 3600.0
TABLE_SECONDS = 10.0
FOLDERS_SECONDS = 0.25
ELSEWHERE = {"comfyui": comfyui.ELSEWHERE, "ray": ray.ELSEWHERE}
"""Backends that compute on other machines, with what a service owns in place of a device."""
PICTURE = "picture-"
"""How the name of a job's picture in its folder begins."""
RESERVED = ("queue.db",)
"""What lies beside the jobs' folders."""
LORA = r"[\w][\w .+()-]{0,200}(:-?[\d.]{1,8})?"
"""A client's LoRA: a name, with a strength or without, and no path."""
PAGE = 200
PLANNED_AT_ONCE = 4
"""Planning computes: more at once would be no faster, and all that others ask would wait longer."""
LOCKS = 64
"""Submissions under different ids seldom wait for each other; two under one id always do."""
DAY = 86_400.0


@dataclass(frozen=True)
class ServiceSettings:
    """How a server works. `retain_days`: how long ended jobs are remembered; their videos stay for good."""

    model: str = "mini"
    device: str = "auto"
    database: str = ""
    max_queued: int = 10_000
    max_queued_per_client: int | None = None
    max_pixels: int = pictures.MAX_PIXELS
    retain_days: float = 30.0
    limits: Limits = field(default_factory=Limits)
    lock_folder: Path | None = None
    url: str = ""
    """Where this server is reached; the lock file of the device says so to other processes."""
    backend: BackendName = "local"
    comfyui_url: str | None = None


@dataclass(frozen=True)
class Submission:
    """What a client asks. `fields` are those of GenerateRequest but for the picture and places.

    `picture` are its bytes, or the id of one that `Service.shelf` keeps; so is `last_picture`, which the clip ends with.
    `options` belong to the door, see NewJob.
    """

    fields: Mapping[str, Any]
    picture: bytes | str
    job_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    client: str = ""
    priority: int = 0
    time_to_live: float | None = None
    execution_timeout: float | None = None
    last_picture: bytes | str | None = None

    def digest(self) -> str:
        """Equal for the same submission: fields, options and pictures."""
        shown = [_picture_id(one) for one in (self.picture, self.last_picture) if one is not None]
        said = json.dumps([dict(self.fields), dict(self.options), *shown], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


Outcome = tuple[StoredJob, bool] | Exception
"""What a submission came to: its job and whether that is new, or why there is none."""


class Service:
    """Started with `start`, ended with `stop`. Every method may block on the disk: call none from an event loop."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.output = Settings().output.absolute()
        self.jobs = Settings().jobs.absolute()
        make_folder(self.jobs)
        elsewhere = ELSEWHERE.get(settings.backend)
        self.device = elsewhere or devices.detect(settings.device)
        self.model = catalog.look(settings.model) if settings.backend == "comfyui" else catalog.find(settings.model)
        self.shelf = Shelf(self.output / "pictures", settings.max_pixels)
        self.store = Store(settings.database or f"sqlite:///{self.jobs}/queue.db")
        self.worker = Worker(
            self.store, f"worker-{self.device.name}", self.folder, settings.limits, lay_out=self.lay_out
        )
        self._drafts = Drafts(self.model, self.device)
        self._table = (-TABLE_SECONDS, measured.Table())
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=task, name=task.__name__, daemon=True) for task in (self._work, self._keep_house)
        ]
        self._owned = owning(self.device.name, settings.url, settings.lock_folder)
        self._folders = places.Folders(FOLDERS_SECONDS)
        self._planning = threading.Semaphore(PLANNED_AT_ONCE)
        self._accepting = [threading.Lock() for _ in range(LOCKS)]

    def start(self) -> None:
        """Own the device and begin to work. Raises DeviceBusy."""
        self._owned.__enter__()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the step in progress; nothing that is finished is lost."""
        self._ending.set()
        self.worker.stop()
        for thread in self._threads:
            thread.join()
        self._owned.__exit__(None, None, None)
        self.store.close()

    def folder(self, job_id: str) -> Path:
        return self.jobs / job_id

    def plan(self, submission: Submission) -> JobPlan:
        """What would happen; nothing but the picture is kept. Raises what planning raises."""
        picture, last = self._shelved(submission)
        set_here = {"image": str(self.shelf.path(picture)), "job_id": "plan", "output": str(self.output)}
        if last is not None:
            set_here["last_image"] = str(self.shelf.path(last))
        return self._plan(_request(submission, set_here), picture, last)

    def submit(self, submission: Submission) -> tuple[StoredJob, bool]:
        """Accept a job, on disk before this returns; whether it is new. The same submission twice is one job.

        Raises InvalidRequest and its like for what can never work, JobConflict, QueueFull, StoreUnavailable, OutputError.
        """
        outcome = self.submit_all([submission])[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit_all(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """`submit` for many, with one transaction; in their order. What it would raise for one stands in its place."""
        outcomes: dict[int, Outcome] = {}
        waiting = {number: (one.job_id or uuid.uuid4().hex, one) for number, one in enumerate(submissions)}
        while waiting:
            # Of two under one id the second waits for what becomes of the first.
            first = {job_id: number for number, (job_id, _) in reversed(waiting.items())}
            batch = [waiting.pop(number) for number in sorted(first.values())]
            outcomes |= {first[job_id]: outcome for job_id, outcome in self._accepted(dict(batch)).items()}
        self.worker.wake.set()
        return [outcomes[number] for number in range(len(submissions))]

    def is_quick(self, submission: Submission) -> bool:
        """Whether to accept this takes about a millisecond: its pictures need not be read first."""
        given = (submission.picture, submission.last_picture)
        return all(one is None or (isinstance(one, str) and self.shelf.knows(one)) for one in given)

    def _accepted(self, submissions: Mapping[str, Submission]) -> dict[str, Outcome]:
        """What became of each submission, by job id."""
        outcomes: dict[str, Outcome] = {}
        fresh: dict[str, NewJob] = {}
        with contextlib.ExitStack() as locks:
            # In order, so that two who want several never wait for each other.
            for number in sorted({hash(job_id) % LOCKS for job_id in submissions}):
                locks.enter_context(self._accepting[number])
            stored = self.store.known([job_id for job_id, one in submissions.items() if one.job_id])
            for job_id, submission in submissions.items():
                try:
                    digest = submission.digest()
                    known = self._known(job_id, digest, stored.get(job_id)) if submission.job_id else None
                    if known is None:
                        fresh[job_id] = self._planned(submission, job_id, digest)
                    else:
                        outcomes[job_id] = known, False
                except (Wan2I2VError, OSError) as error:
                    outcomes[job_id] = translate(error, f"accepting {job_id}")
                except Exception as error:
                    # What is wrong with one must not become the others' answer; its own client's route tells the log.
                    outcomes[job_id] = error
            if fresh:
                limits = self.settings.max_queued, self.settings.max_queued_per_client
                outcomes |= zip(fresh, self.store.submit_all(list(fresh.values()), *limits), strict=True)
        return outcomes

    def record(self, job_id: str) -> Record | None:
        """The record of a job that ended; None before."""
        return Workspace(self.folder(job_id)).load_record()

    def rate(self, job_id: str, rating: int) -> StoredJob:
        """Note how much a video is liked, from 1 to 5, with the job and in the insights.

        Raises JobNotFound, JobConflict when there is no video, OutputError where the insights cannot be written.
        """
        job = self.store.rate(job_id, rating)
        record = self.record(job_id)
        if record is not None:
            noting.rate(record, Workspace(self.folder(job_id)), rating)
        return job

    def _known(self, job_id: str, digest: str, found: StoredJob | None) -> StoredJob | None:
        """`found`, the job of this id, when it is the same submission. Raises JobConflict for another one's id."""
        if found is not None and found.digest != digest:
            raise JobConflict(f"job id {job_id!r} belongs to a different job; choose another id.")
        folder = self.folder(job_id)
        if found is None and folder.is_dir():
            if _has_made_nothing(folder):
                # Of a job that was forgotten, or of a server of an earlier version that was killed while it accepted this one.
                _discard(folder)
            elif (folder / "plan.json").exists():
                raise JobConflict(f"job id {job_id!r} belongs to an earlier job; choose another id.")
        return found

    def _planned(self, submission: Submission, job_id: str, digest: str) -> NewJob:
        """The job as it will be written down, its pictures on the disk. Its folder is made when the job begins, see `lay_out`."""
        picture, last = self._shelved(submission)
        folder = self.folder(job_id)
        paths = {"image": str(folder / f"{PICTURE}{picture[:16]}")}
        if last is not None:
            paths["last_image"] = str(folder / f"last-{PICTURE}{last[:16]}")
        request = _request(submission, paths | {"job_id": job_id, "output": str(self.output)})
        with self._planning:
            plan = self._plan(request, picture, last)
        return NewJob(
            job_id,
            digest,
            request.model_dump_json(exclude_defaults=True),
            plan.model_dump_json(),
            dict(submission.options),
            submission.client,
            f"{request.prompt}\n{request.negative_prompt}",
            submission.priority,
            submission.time_to_live,
            submission.execution_timeout,
        )

    def _shelved(self, submission: Submission) -> tuple[str, str | None]:
        """The ids of the first and the last picture, kept."""
        last = submission.last_picture
        return self._kept(submission.picture), None if last is None else self._kept(last)

    def _kept(self, picture: bytes | str) -> str:
        if not isinstance(picture, str):
            return self.shelf.put(picture)
        self.shelf.use(picture)
        return picture

    def _plan(self, request: GenerateRequest, picture: str, last: str | None) -> JobPlan:
        named = request.last_image
        if last is not None:
            # The job's own folder, which the request names, is not there yet.
            request = request.replaced(last_image=str(self.shelf.path(last)))
        facts = self.shelf.facts(picture).model_copy(update={"path": request.image})
        seed, kept = secrets.randbelow(MAX_DRAWN_SEED), self.shelf.path(picture)
        if self.settings.backend in ELSEWHERE:
            there = {
                "model": self.settings.model,
                "comfyui_url": self.settings.comfyui_url,
                "device": self.settings.device,
            }
            plan = backends.BACKENDS[self.settings.backend].draft(Wanted(request.replaced(**there), kept, facts, seed))
        else:
            loras, table = choosing.choose(request, self.model), self._measured()
            plan = self._drafts.draft(request, facts, kept, last, seed, loras, table)
        if plan.last_image is not None:
            plan = plan.model_copy(update={"last_image": plan.last_image.model_copy(update={"path": named})})
        places.check_writable(plan, jobs=self.jobs, folders=self._folders)
        return plan

    def lay_out(self, job: StoredJob) -> None:
        """Make a job's folder, see `lay_out`."""
        lay_out(job, self.shelf)

    def _measured(self) -> measured.Table:
        """The table of this machine, read again once in a while: a plan per keystroke shall not read it each time."""
        read, table = self._table
        if time.monotonic() - read > TABLE_SECONDS:
            found = measured.load()
            # The same table is the same object: plans that were made with it hold.
            table = table if found == table else found
            self._table = (time.monotonic(), table)
        return table

    def _remembered(self) -> Iterator[StoredJob]:
        """All jobs, a few at a time: plans are long, and there may be thousands."""
        below: int | None = None
        while found := self.store.page(below=below, limit=PAGE):
            yield from found
            below = found[-1].seq

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self.worker.run()
            except Exception:
                # Without this thread no job is computed: it takes its jobs back and goes on.
                log.exception("the worker's parent failed and begins anew")
                self._ending.wait(HOUSEKEEPING_SECONDS)

    def _keep_house(self) -> None:
        """Once a second: put lapsed jobs back and time out old ones; forget what is past its retention; tidy the store."""
        swept = 0.0
        while not self._ending.wait(HOUSEKEEPING_SECONDS):
            try:
                self.store.expire()
                self.store.reclaim()
                self.store.prune(time.time() - self.settings.retain_days * DAY)
                self.store.tidy()
                if time.monotonic() - swept > SWEEP_SECONDS:
                    wanted = {picture for job in self._remembered() for picture, _ in _pictures(job)}
                    self.shelf.sweep(self.settings.retain_days * DAY, wanted)
                    swept = time.monotonic()
            except (Wan2I2VError, OSError):
                # Database or disk does not answer: clients are told so, and the next second tries again.
                continue


def lay_out(job: StoredJob, shelf: Shelf) -> None:
    """See that a job's pictures are in its folder; its plan names them by their paths. Raises InvalidImage, OSError.

    This is when a job begins: to make a folder takes the disk as long as all else that a submission needs, and a power cut
    may take it away again.
    """
    for picture, path in _pictures(job):
        if not path.exists():
            make_folder(path.parent)
            shelf.link(picture, path)


def _pictures(job: StoredJob) -> list[tuple[str, Path]]:
    """The ids of a job's pictures, and where its plan has them; of any version of plans: those of years ago are remembered too."""
    plan = json.loads(job.plan)
    return [(one["sha256"], Path(one["path"])) for one in (plan["image"], plan.get("last_image")) if one]


def _picture_id(picture: bytes | str) -> str:
    return picture if isinstance(picture, str) else hashlib.sha256(picture).hexdigest()


def _request(submission: Submission, set_here: Mapping[str, str]) -> GenerateRequest:
    """The request of a submission; `set_here` are the fields that no client sets, job id and paths."""
    job_id = set_here["job_id"]
    if any(job_id.startswith(name) for name in RESERVED):
        raise InvalidRequest("job_id", job_id, f"a name that does not begin with {' or '.join(RESERVED)}")
    for name in ("loras", "loras_high", "loras_low"):
        for lora in submission.fields.get(name) or ():
            if not re.fullmatch(LORA, str(lora)):
                raise InvalidRequest(name, lora, "a LoRA of the catalog or a file name, without folders")
    return GenerateRequest(**(dict(submission.fields) | dict(set_here)))


def _has_made_nothing(folder: Path) -> bool:
    """Whether a folder holds only what is there before a job has made anything, a picture first of all."""
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    pictures_of_it = [name for name in names if name.removeprefix("last-").startswith(PICTURE)]
    return bool(pictures_of_it) and set(names) <= {*pictures_of_it, "request.json", "plan.json"}


def _discard(folder: Path) -> None:
    """Remove the folder of a job that has made nothing, with its pictures."""
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
