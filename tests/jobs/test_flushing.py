"""What is on the disk when: commits that are waited for are flushed, together where they come together, and the rest is not."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from wan2_i2v.jobs.database import TIDIED_EVERY
from wan2_i2v.jobs.errors import StoreUnavailable
from wan2_i2v.jobs.job import NewJob
from wan2_i2v.jobs.store import Store

NewJobs = Callable[..., NewJob]


class Disk:
    """Flushes of the database at `path`: which of its jobs are safe, and how many flushes there were."""

    def __init__(self, path: Path) -> None:
        self.path, self.safe, self.count = path, set[str](), 0
        self.gate = threading.Event()
        self.gate.set()
        self.failing: OSError | None = None
        self._sync = os.fdatasync

    def flush(self, handle: int) -> None:
        log = self.path.with_name(f"{self.path.name}-wal")
        if not os.path.samestat(os.fstat(handle), log.stat()):
            # Of another database, by a thread that an earlier test has left.
            self._sync(handle)
            return
        self.count += 1
        with closing(sqlite3.connect(self.path)) as connection:
            written = {row[0] for row in connection.execute("SELECT id FROM jobs")}
        assert self.gate.wait(60)
        if self.failing is not None:
            raise self.failing
        self._sync(handle)
        self.safe |= written


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path / "jobs.db")
    monkeypatch.setattr(os, "fdatasync", disk.flush)
    return disk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/jobs.db")
    yield store
    store.close()


def test_a_job_is_on_the_disk_before_submit_returns(store: Store, disk: Disk, new_job: NewJobs) -> None:
    store.submit(new_job("a"))
    assert (disk.safe, disk.count) == ({"a"}, 1)
    store.cancel("a")
    assert disk.count == 2


def test_what_is_told_many_times_a_second_is_not_waited_for(store: Store, disk: Disk, new_job: NewJobs) -> None:
    store.submit(new_job("a"))
    (job,) = store.claim("w", 1, 60)
    before = disk.count
    assert store.progress(job, "progress", {"done": 1})
    assert store.beat([job], 60) == {"a"}
    assert disk.count == before
    assert store.finish(job, {})
    assert disk.count == before + 1


def test_those_who_come_together_share_a_flush_and_nobody_is_told_too_early(
    store: Store, disk: Disk, new_job: NewJobs
) -> None:
    def submit(number: int) -> bool:
        store.submit(new_job(f"job-{number}"))
        return f"job-{number}" in disk.safe

    disk.gate.clear()
    before = store._flusher._written
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(submit, number) for number in range(16)]
        # All have written and been counted; the first flush began with fewer.
        while store._flusher._written < before + 16:
            pass
        assert not any(one.done() for one in waiting)
        disk.gate.set()
        assert all(one.result(60) for one in waiting)
    assert disk.count <= 2


def test_a_job_that_another_thread_is_still_writing_is_not_acknowledged(
    store: Store, disk: Disk, new_job: NewJobs
) -> None:
    disk.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.submit, new_job("a"))
        while store.find("a") is None:
            pass
        again = pool.submit(store.known, ["a", "b"])
        assert not first.done() and not again.done()
        disk.gate.set()
        found = again.result(60)
    assert {name: job.id for name, job in found.items()} == {"a": "a"}
    assert disk.safe == {"a"}


def test_a_disk_that_failed_to_flush_is_not_believed_again(store: Store, disk: Disk, new_job: NewJobs) -> None:
    disk.failing = OSError(5, "Input/output error")
    with pytest.raises(StoreUnavailable, match=r"Input/output error.*start the server again"):
        store.submit(new_job("a"))
    disk.failing = None
    for again in (lambda: store.known("a"), lambda: store.submit(new_job("b"))):
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            again()


def test_the_log_of_writes_is_moved_into_the_database_and_begun_anew(
    store: Store, tmp_path: Path, new_job: NewJobs
) -> None:
    log, sizes = tmp_path / "jobs.db-wal", []
    for turn in range(4):
        for number in range(TIDIED_EVERY):
            store.submit(new_job(f"{turn}-{number}"))
        assert store.tidy()
        assert not store.tidy()
        sizes.append(log.stat().st_size)
    # The same room is written again and again.
    assert sizes[-1] == sizes[1]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (4 * TIDIED_EVERY,)
