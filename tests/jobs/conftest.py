"""Stores on both databases, and jobs for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import databases
import pytest

from wan2_i2v.jobs.job import NewJob
from wan2_i2v.jobs.store import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    reason = databases.can_run_postgres()
    folder = databases.binaries()
    if reason or folder is None:
        pytest.skip(reason)
    with databases.postgres(folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    return databases.fresh_database(request.getfixturevalue("postgres_server"))


class Clock:
    """Seconds that tests move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[Store]:
    store = Store(database, clock=clock)
    yield store
    store.close()


@pytest.fixture
def new_job() -> Callable[..., NewJob]:
    def make(job_id: str = "", **fields: object) -> NewJob:
        return NewJob(**({"id": job_id or uuid.uuid4().hex, "digest": "d", "request": "{}", "plan": "{}"} | fields))

    return make
