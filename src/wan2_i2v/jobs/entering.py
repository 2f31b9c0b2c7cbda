"""How a job enters the queue: whether there is room for it, and the row that it becomes. Imported by the store."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from wan2_i2v.jobs.errors import QueueFull
from wan2_i2v.jobs.job import NewJob
from wan2_i2v.jobs.tables import JOBS

WAITS = JOBS.c.state == "queued"
WAITING = select(func.count()).where(WAITS)
WAITING_OF_CLIENT = WAITING.where(JOBS.c.client == bindparam("asking"))


class Room:
    """How many jobs wait, counted once for a transaction, and only where there is a limit."""

    def __init__(self, connection: Connection, most: int | None, most_of_client: int | None) -> None:
        self._connection, self._most, self._most_of_client = connection, most, most_of_client
        self._waiting: dict[str | None, int] = {}

    def take(self, client: str) -> None:
        """A place in the queue. Raises QueueFull."""
        self._check(None, self._most, "jobs")
        self._check(client, self._most_of_client, "jobs of yours")
        self._waiting = {whose: count + (whose in (None, client)) for whose, count in self._waiting.items()}

    def _check(self, client: str | None, limit: int | None, whose: str) -> None:
        if limit is None:
            return
        if client not in self._waiting:
            query = WAITING if client is None else WAITING_OF_CLIENT
            asking = {} if client is None else {"asking": client}
            self._waiting[client] = int(self._connection.scalar(query, asking) or 0)
        if self._waiting[client] >= limit:
            raise QueueFull(f"{self._waiting[client]} {whose} wait already; the limit is {limit}. Try again later.")


def queued_row(job: NewJob, now: float) -> dict[str, Any]:
    """The row of a job that is accepted `now`."""
    return {
        "id": job.id,
        "state": "queued",
        "priority": job.priority,
        "digest": job.digest,
        "request": job.request,
        "plan": job.plan,
        "options": json.dumps(job.options),
        "client": job.client,
        "prompts": job.prompts.casefold(),
        "created_at": now,
        "expires_at": None if job.time_to_live is None else now + job.time_to_live,
        "execution_timeout": job.execution_timeout,
        "attempts": 0,
        "deaths": 0,
    }
