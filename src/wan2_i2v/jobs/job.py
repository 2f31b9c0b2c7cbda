"""One job as the store has it, and a job to be. Frozen; imported by store, worker, service and doors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

from wan2_i2v.jobs.state import TERMINAL, State

JSON_FIELDS = ("options", "progress", "error", "output")


@dataclass(frozen=True)
class NewJob:
    """What is written when a job is accepted. `digest` tells the same submission from another one under the same id.

    `options` belong to the door; `webhook` among them is a URL that is told when the job ends. `client` is who asked, `prompts` what is
    searched.
    """

    id: str
    digest: str
    request: str
    plan: str
    options: dict[str, Any] = field(default_factory=dict)
    client: str = ""
    prompts: str = ""
    priority: int = 0
    time_to_live: float | None = None
    execution_timeout: float | None = None


@dataclass(frozen=True)
class StoredJob:
    """A row. Times are seconds since 1970; `request` and `plan` are JSON text as the core's models write it."""

    seq: int
    id: str
    state: State
    priority: int
    digest: str
    request: str
    plan: str
    options: dict[str, Any]
    client: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    execution_timeout: float | None
    attempts: int
    deaths: int
    worker: str | None
    token: str | None
    lease_until: float | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    output: dict[str, Any] | None

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True)
class Delivery:
    """A webhook that is due: the job that ended, where to tell it, and how often that was tried."""

    seq: int
    job_id: str
    url: str
    attempts: int


@dataclass(frozen=True)
class StoredEvent:
    """One thing that happened: `kind` is state, progress, preview or rating, `seq` its number in order of appearance."""

    seq: int
    job_id: str
    kind: str
    data: dict[str, Any]
    at: float


def from_row(row: Any) -> StoredJob:
    values = {item.name: getattr(row, item.name) for item in fields(StoredJob)}
    for name in JSON_FIELDS:
        values[name] = None if values[name] is None else json.loads(values[name])
    return StoredJob(**values)
