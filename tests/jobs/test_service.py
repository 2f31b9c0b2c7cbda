"""The service with its real worker: jobs computed in a child process, killed, frozen, cancelled, and what is left."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from requests_http import png
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.events import Progress, Started
from wan2_i2v.jobs.drafts import Drafts
from wan2_i2v.jobs.errors import DeviceBusy, JobConflict
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Service, ServiceSettings, Submission, _pictures
from wan2_i2v.jobs.store import Store
from wan2_i2v.jobs.worker import Limits, Worker, _Hand
from wan2_i2v.plan import JobPlan
from wan2_i2v.workspace import Workspace

FIELDS = {"prompt": "pan left", "num_frames": 5, "width": 48, "height": 32, "num_inference_steps": 3}
LIMITS = Limits(batch=2, beat=0.1, silence=20, idle_poll=0.1)
PATIENCE = 600.0


@pytest.fixture(scope="module")
def picture() -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def start(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Service]]:
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(tmp_path / "output"))
    started: list[Service] = []

    def go(limits: Limits = LIMITS) -> Service:
        settings = ServiceSettings(str(checkpoint), "cpu", limits=limits, lock_folder=tmp_path / "locks")
        service = Service(settings)
        service.start()
        started.append(service)
        return service

    yield go
    for service in started:
        if not service._ending.is_set():
            service.stop()


def until(service: Service, job_id: str, accept: Callable[[StoredJob], bool]) -> StoredJob:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        job = service.store.get(job_id)
        if accept(job):
            return job
        time.sleep(0.02)
    pytest.fail(f"{job_id} stayed {job.state}: {job}")


def over(job: StoredJob) -> bool:
    return job.is_over


def is_denoising(job: StoredJob) -> bool:
    return job.progress is not None and job.progress["stage"].startswith("denoise")


def sha256(service: Service, name: str) -> str:
    return hashlib.sha256((service.output / f"{name}.mp4").read_bytes()).hexdigest()


def ask(picture: bytes, job_id: str, **fields: object) -> Submission:
    return Submission({**FIELDS, "seed": 5, **fields}, picture, job_id)


def kill_child(service: Service) -> None:
    """A job is written down as claimed a little before there is a process for it."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            if service.worker.pid is not None:
                os.kill(service.worker.pid, signal.SIGKILL)
                return
        time.sleep(0.02)


def test_a_killed_a_frozen_and_an_undisturbed_job_give_the_same_bytes(start, picture):
    service = start()
    service.submit(ask(picture, "whole"))
    assert until(service, "whole", over).state == "done"
    for name, number in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
        service.submit(ask(picture, name))
        until(service, name, is_denoising)
        os.kill(service.worker.pid, number)
        job = until(service, name, over)
        assert (job.state, job.deaths, job.error) == ("done", 1, None)
        assert sha256(service, name) == sha256(service, "whole")
    assert not list(service.output.glob(".*.mp4"))


def test_a_job_that_kills_its_worker_three_times_is_set_aside_and_others_go_on(start, picture):
    service = start(Limits(batch=1, beat=0.1, idle_poll=0.1))
    service.submit(ask(picture, "bomb"))
    # Two deaths of a worker that had not come to any job yet are nobody's fault.
    for attempt in range(1, 6):
        until(service, "bomb", lambda job, n=attempt: job.state == "running" and job.attempts == n)
        kill_child(service)
        job = until(service, "bomb", lambda job, n=attempt: job.attempts > n or job.is_over)
        if job.is_over:
            break
    job = service.store.get("bomb")
    assert (job.state, job.deaths) == ("set_aside", 3)
    assert "SIGKILL" in job.error["message"]
    service.submit(ask(picture, "good"))
    assert until(service, "good", over).state == "done"


def test_a_process_that_beats_but_gets_nowhere_is_ended_and_the_job_set_aside(start, picture):
    # None gets that far within so short a time.
    service = start(Limits(batch=1, beat=0.05, idle_poll=0.1, stall=0.2))
    service.submit(ask(picture, "hangs"))
    job = until(service, "hangs", over)
    assert (job.state, job.deaths, job.error["code"]) == ("set_aside", 3, "set_aside")
    assert "stopped answering while starting" in job.error["message"]


def test_cancel_stops_the_job_and_spares_its_batch(start, picture):
    service = start(Limits(batch=2, beat=0.05, idle_poll=5))
    service.worker.wake.clear()
    for name in ("gone", "stays"):
        service.submit(ask(picture, name, num_inference_steps=30))
    until(service, "gone", lambda job: job.state == "running")
    service.store.cancel("gone")
    assert until(service, "stays", over).state == "done"
    assert service.store.get("gone").state == "cancelled"
    assert not (service.output / "gone.mp4").exists()


def test_a_stopped_server_leaves_its_jobs_to_the_next_one(start, picture):
    first = start()
    first.submit(ask(picture, "a"))
    until(first, "a", is_denoising)
    with pytest.raises(DeviceBusy, match=str(os.getpid())):
        start()
    first.stop()
    second = start()
    assert until(second, "a", over).state == "done"


def test_what_a_locked_database_could_not_take_is_written_later_and_no_job_is_begun_twice(start, picture):
    service = start(Limits(batch=1, beat=0.1, idle_poll=0.1))
    service.worker.store = Store(f"sqlite:///{service.jobs}/queue.db", lock_wait=0.1)
    for name in "abc":
        service.submit(ask(picture, name))
    until(service, "a", is_denoising)
    with contextlib.closing(sqlite3.connect(service.jobs / "queue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        deadline = time.monotonic() + PATIENCE
        while service.record("a") is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        other.execute("ROLLBACK")
    jobs = [until(service, name, over) for name in "abc"]
    assert [(job.state, job.attempts, job.deaths) for job in jobs] == [("done", 1, 0)] * 3
    service.stop()
    service.worker.store.close()


class Killed(BaseException):
    """As the end of the process would be: nothing cleans up after it."""


def test_a_submission_that_a_kill_cut_short_can_be_repeated(start, picture, monkeypatch):
    service = start()
    with monkeypatch.context() as patch:
        patch.setattr(service.store, "submit_all", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            service.submit(ask(picture, "a", seed=5))
    assert not service.folder("a").exists()
    # What earlier versions left of such a submission.
    for name in ("a", "b"):
        service.folder(name).mkdir()
        (service.folder(name) / "picture-0123456789abcdef").write_bytes(picture)
    job, new = service.submit(ask(picture, "a", seed=6))
    assert new
    assert json.loads(job.plan)["seed"] == 6
    # What a job has made is never taken for a leftover.
    Workspace(service.folder("b")).create(None, JobPlan.model_validate_json(job.plan))
    (service.folder("b") / "prepared.png").write_bytes(picture)
    with pytest.raises(JobConflict, match="earlier job"):
        service.submit(ask(picture, "b"))
    service.store.cancel("a")


def test_what_a_power_cut_took_of_waiting_jobs_is_made_again(start, picture):
    """A job that begins flushes nothing of its folder: that may be gone, or empty."""
    first = start(Limits(batch=1, beat=0.1, idle_poll=0.1))
    first.submit(ask(picture, "computes", num_inference_steps=200))
    until(first, "computes", is_denoising)
    for name in ("gone", "empty"):
        first.submit(replace(ask(picture, name), last_picture=picture))
    for name in ("gone", "empty"):
        assert not first.folder(name).exists()
        first.lay_out(first.store.get(name))
    first.stop()
    shutil.rmtree(first.folder("gone"))
    for path in first.folder("empty").iterdir():
        path.unlink()
    first = start()
    first.store.cancel("computes")
    for name in ("gone", "empty"):
        job = until(first, name, over)
        assert (job.state, job.error) == ("done", None)
        assert (
            Workspace(first.folder(name)).load_plan().fingerprint()
            == JobPlan.model_validate_json(job.plan).fingerprint()
        )
        for kind in ("picture-*", "last-picture-*"):
            assert [path.read_bytes() for path in first.folder(name).glob(kind)] == [picture]


def test_a_plan_that_was_made_before_is_the_plan_that_would_be_made(start, picture):
    service = start()
    service.store.cancel(service.submit(ask(picture, "first", seed=1))[0].id)
    other = png(64, 32)
    for number, changed in enumerate(
        ({"seed": 2}, {"seed": None}, {"seed": 3, "prompt": "zoom"}, {"width": 32, "seed": 4})
    ):
        for shown in (picture, other):
            for last in (None, picture, other):
                asked = replace(ask(shown, f"job-{number}", **changed), last_picture=last)
                kept = service.plan(asked)
                service._drafts = Drafts(service.model, service.device)
                fresh = service.plan(asked)
                drawn = changed["seed"] is None
                assert kept.model_dump(exclude={"seed"} if drawn else None) == fresh.model_dump(
                    exclude={"seed"} if drawn else None
                )
                again = service.plan(replace(asked, fields=dict(asked.fields) | {"seed": 77}))
                assert (again.seed, again.model_copy(update={"seed": fresh.seed})) == (77, fresh)
                assert drawn or fresh.seed == changed["seed"]


def test_submissions_are_idempotent_and_refusals_leave_nothing(start, picture):
    service = start()
    first, new = service.submit(ask(picture, "a", seed=None))
    again, new_again = service.submit(ask(picture, "a", seed=None))
    assert (new, new_again, again.plan) == (True, False, first.plan)
    with pytest.raises(JobConflict):
        service.submit(ask(picture, "a", seed=6))
    for submission in (ask(b"no picture", "b"), ask(picture, "c", width=-1), ask(picture, "../d")):
        with pytest.raises(InvalidRequest):
            service.submit(submission)
    assert {path.name for path in service.jobs.iterdir() if not path.name.startswith("queue.db")} <= {"a"}
    assert service.plan(ask(picture, "e")).num_frames == 5
    assert not service.folder("e").exists()
    with contextlib.suppress(JobConflict):
        service.store.cancel("a")


def test_pictures_of_remembered_jobs_stay_on_the_shelf(start, picture):
    service = start(Limits(batch=1, beat=0.1, idle_poll=0.1))
    service.submit(ask(picture, "computes", num_inference_steps=200))
    until(service, "computes", is_denoising)
    ending, alone = png(40, 24), png(24, 40)
    service.submit(replace(ask(picture, "waits"), last_picture=ending))
    wanted = {picture for job in service._remembered() for picture, _ in _pictures(job)}
    service.shelf.put(alone)
    service.shelf.sweep(-1.0, wanted)
    left = {path.read_bytes() for path in (service.output / "pictures").iterdir()}
    assert left == {picture, ending}
    service.store.cancel("computes")
    assert until(service, "waits", over).state == "done"


def test_a_job_whose_picture_is_gone_fails_and_says_so(start, picture):
    service = start(Limits(batch=2, beat=0.1, idle_poll=0.1))
    service.submit(ask(picture, "computes", num_inference_steps=200))
    until(service, "computes", is_denoising)
    other = png(40, 24)
    service.submit(ask(other, "gone"))
    service.submit(ask(picture, "there"))
    service.shelf.path(hashlib.sha256(other).hexdigest()).unlink()
    service.store.cancel("computes")
    gone = until(service, "gone", over)
    assert (gone.state, gone.error["field"]) == ("failed", "picture")
    assert "Upload the picture again" in gone.error["message"]
    assert until(service, "there", over).state == "done"


def test_a_plan_of_another_version_fails_its_job_and_stops_nobody(start, picture):
    service = start(Limits(batch=1, beat=0.1, idle_poll=0.1))
    service.submit(ask(picture, "computes", num_inference_steps=200))
    until(service, "computes", is_denoising)
    for name in ("old", "next"):
        service.submit(ask(picture, name))
    old = json.loads(service.store.get("old").plan)
    del old["recipe"]
    with service.store.writing() as connection:
        connection.exec_driver_sql("UPDATE jobs SET plan = ? WHERE id = 'old'", (json.dumps(old),))
    service.store.cancel("computes")
    assert until(service, "old", over).state == "failed"
    assert until(service, "next", over).state == "done"
    assert {path for job in service._remembered() for path, _ in _pictures(job)} == {
        hashlib.sha256(picture).hexdigest()
    }


def test_of_fast_steps_not_all_are_told(store, new_job, tmp_path, monkeypatch):
    store.submit(new_job("a"))
    (job,) = store.claim("w", 1, 60)
    worker = Worker(store, "w", lambda job_id: tmp_path, lay_out=lambda job: None)
    worker._hand = _Hand({"a": job}, taken=True)
    moment = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    for stage, total in (("denoise high", 30), ("denoise low", 3)):
        worker._tell(Started("a", stage, total))
        for done in range(1, total + 1):
            moment[0] += 0.03
            worker._tell(Progress("a", stage, done, total))
    told = [(event.data["stage"][8:], event.data["done"]) for event in store.events(0) if event.kind == "progress"]
    high = [0, 1, 5, 9, 13, 17, 21, 25, 29, 30]
    assert told == [("high", done) for done in high] + [("low", done) for done in (0, 3)]
