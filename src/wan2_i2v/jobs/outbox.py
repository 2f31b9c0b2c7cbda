"""Webhooks still to be sent, in the job store's own database, so that a restart sends them.

A row is written in the transaction that ends its job (`enqueue`); the HTTP door sends what is due and says how it went.
Imported by the store and by the door's sender.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select, update

from wan2_i2v.jobs.job import Delivery, StoredJob
from wan2_i2v.jobs.tables import DELIVERIES

if TYPE_CHECKING:
    from wan2_i2v.jobs.store import Store


def enqueue(connection: Connection, job: StoredJob, now: float) -> None:
    """A job is over: tell the URL in its options, when there is one."""
    url = job.options.get("webhook")
    if url:
        connection.execute(insert(DELIVERIES).values(job_id=job.id, url=str(url), attempts=0, due_at=now))


def due(store: Store, now: float, limit: int = 20) -> list[Delivery]:
    """What is to be sent by now, the oldest first."""
    query = select(DELIVERIES).where(DELIVERIES.c.due_at <= now).order_by(DELIVERIES.c.due_at).limit(limit)
    with store.reading() as connection:
        return [Delivery(row.seq, row.job_id, row.url, row.attempts) for row in connection.execute(query)]


def settled(store: Store, delivery: Delivery) -> None:
    """It was answered, or tried often enough."""
    with store.writing() as connection:
        connection.execute(delete(DELIVERIES).where(DELIVERIES.c.seq == delivery.seq))


def postponed(store: Store, delivery: Delivery, due_at: float) -> None:
    """It failed once more and is to be tried again at `due_at`."""
    change = update(DELIVERIES).where(DELIVERIES.c.seq == delivery.seq)
    with store.writing() as connection:
        connection.execute(change.values(attempts=delivery.attempts + 1, due_at=due_at))
