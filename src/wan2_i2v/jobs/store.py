"""The durable queue, in a `Database`. Imported by worker and service.

A job is on disk before `submit` returns. Every change of state goes through `_move`, which asks the table in `state`
and writes an event in the same transaction. A running job belongs to the `token` of its claim: a worker that lost it
(cancelled, expired, lease lapsed) learns so from the False that its next word about it gets.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from wan2_i2v.errors import JobNotFound, Wan2I2VError
from wan2_i2v.jobs import outbox, schema
from wan2_i2v.jobs import state as states
from wan2_i2v.jobs.database import LOCK_WAIT_SECONDS, Database
from wan2_i2v.jobs.entering import WAITS, Room, queued_row
from wan2_i2v.jobs.errors import JobConflict, SetAside
from wan2_i2v.jobs.job import NewJob, StoredEvent, StoredJob, from_row
from wan2_i2v.jobs.state import TERMINAL, Move, State
from wan2_i2v.jobs.tables import EVENTS, JOBS, RETRIED

MAX_DEATHS = 3
"""A job that ended its worker this often is set aside."""

FIND = select(JOBS).where(JOBS.c.id == bindparam("job_id"))
FIND_ALL = select(JOBS).where(JOBS.c.id.in_(bindparam("ids", expanding=True)))
ADD_JOBS, ADD_EVENTS = insert(JOBS).returning(JOBS), insert(EVENTS)
COUNTS = select(JOBS.c.state, func.count()).group_by(JOBS.c.state)
BEGUN_AGAIN = select(func.count()).where(RETRIED)
EARLIER = (JOBS.c.priority == bindparam("urgency")) & (JOBS.c.seq < bindparam("number"))
BEFORE = select(func.count()).where(WAITS & ((JOBS.c.priority > bindparam("urgency")) | EARLIER))
NEWS = select(EVENTS).where(EVENTS.c.seq > bindparam("after")).order_by(EVENTS.c.seq).limit(bindparam("most"))
NEWS_OF_JOB = NEWS.where(EVENTS.c.job_id == bindparam("of_job"))
"""Made once: to put a statement together takes longer than to run it, and these are of every submission and every look."""

UNHELD: dict[str, Any] = {"worker": None, "token": None, "lease_until": None}


class Store(Database):
    """See the module. `clock` gives seconds since 1970."""

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.time, lock_wait: float = LOCK_WAIT_SECONDS
    ) -> None:
        super().__init__(url, lock_wait)
        self._clock = clock
        try:
            with self.writing() as connection:
                schema.prepare(connection)
        except BaseException:
            self.close()
            raise

    # --- clients -----------------------------------------------------------------------------------------------------

    def submit(
        self, job: NewJob, max_queued: int | None = None, max_of_client: int | None = None
    ) -> tuple[StoredJob, bool]:
        """Write a job, or find the one that the same submission under this id wrote before; whether it is new.

        Raises JobConflict when the id belongs to a different submission, QueueFull when `max_queued` jobs wait, or
        `max_of_client` of the same client.
        """
        outcome = self.submit_all([job], max_queued, max_of_client)[0]
        if isinstance(outcome, Wan2I2VError):
            raise outcome
        return outcome

    def submit_all(
        self, jobs: Sequence[NewJob], max_queued: int | None = None, max_of_client: int | None = None
    ) -> list[tuple[StoredJob, bool] | Wan2I2VError]:
        """`submit` for jobs of different ids in one transaction, in order; what it would raise for one stands in its place."""
        outcomes: dict[str, tuple[StoredJob, bool] | Wan2I2VError] = {}
        with self.writing() as connection:
            known = self._find_all(connection, [job.id for job in jobs])
            room = Room(connection, max_queued, max_of_client)
            fresh = []
            for job in jobs:
                found = known.get(job.id)
                try:
                    if found is None:
                        room.take(job.client)
                        fresh.append(job)
                    elif found.digest == job.digest:
                        outcomes[job.id] = found, False
                    else:
                        raise JobConflict(f"job id {job.id!r} belongs to a different job; choose another id.")
                except Wan2I2VError as refusal:
                    outcomes[job.id] = refusal
            if fresh:
                now = self._clock()
                for row in connection.execute(ADD_JOBS, [queued_row(job, now) for job in fresh]):
                    outcomes[row.id] = from_row(row), True
                connection.execute(ADD_EVENTS, [self._event(job.id, "state", {"state": "queued"}) for job in fresh])
        return [outcomes[job.id] for job in jobs]

    def get(self, job_id: str) -> StoredJob:
        """Raises JobNotFound."""
        with self.reading() as connection:
            return self._get(connection, job_id)

    def find(self, job_id: str) -> StoredJob | None:
        """The job of this id, None when there is none."""
        with self.reading() as connection:
            return self._find(connection, job_id)

    def known(self, job_ids: Sequence[str]) -> dict[str, StoredJob]:
        """Those of the jobs that there are, by id, for whoever acknowledges them: they are on the disk when this returns."""
        with self.reading() as connection:
            found = self._find_all(connection, job_ids)
        if found:
            # Another thread may have written them and still wait for the disk.
            self._flush()
        return found

    def page(
        self,
        *,
        after: str | None = None,
        below: int | None = None,
        limit: int = 20,
        newest_first: bool = True,
        only: Sequence[State] = (),
        words: Sequence[str] = (),
    ) -> list[StoredJob]:
        """Jobs in order of submission, those behind the job `after`, or with a `seq` below a number, when given.

        `words` have to be in the prompts, each of them. Raises JobNotFound for an unknown `after`.
        """
        with self.reading() as connection:
            query = select(JOBS).limit(limit).order_by(JOBS.c.seq.desc() if newest_first else JOBS.c.seq)
            if only:
                query = query.where(JOBS.c.state.in_(only))
            if below is not None:
                query = query.where(JOBS.c.seq < below)
            for word in words:
                query = query.where(JOBS.c.prompts.contains(word.casefold(), autoescape=True))
            if after is not None:
                seq = self._get(connection, after).seq
                query = query.where(JOBS.c.seq < seq if newest_first else JOBS.c.seq > seq)
            return [from_row(row) for row in connection.execute(query)]

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        with self.reading() as connection:
            rows = connection.execute(COUNTS).all()
        found = {row[0]: int(row[1]) for row in rows}
        return {name: found.get(name, 0) for name in states.STATES}

    def retried(self) -> int:
        """How many jobs were begun more than once."""
        with self.reading() as connection:
            return int(connection.scalar(BEGUN_AGAIN) or 0)

    def positions(self, jobs: Iterable[StoredJob]) -> dict[str, int]:
        """How many waiting jobs are claimed before each of these, by id; nothing of those that do not wait."""
        waiting = sorted((job for job in jobs if job.state == "queued"), key=lambda job: (job.priority, job.seq))
        if not waiting:
            return {}
        found: dict[str, int] = {}
        before: StoredJob | None = None
        with self.reading() as connection:
            for job in waiting:
                if before is not None and (job.priority, job.seq) == (before.priority, before.seq + 1):
                    # Nobody is between the two: to count is needed once for all jobs of a crowd that were accepted together.
                    found[job.id] = found[before.id] + 1
                else:
                    asked = {"urgency": job.priority, "number": job.seq}
                    found[job.id] = int(connection.scalar(BEFORE, asked) or 0)
                before = job
        return found

    def cancel(self, job_id: str) -> StoredJob:
        """Cancel a job that waits or runs. Raises JobNotFound, or JobConflict when it is over."""
        return self._change(job_id, "cancel", finished_at=self._clock(), **UNHELD)

    def retry(self, job_id: str) -> StoredJob:
        """Queue a job again that failed, timed out or was set aside. Raises JobNotFound or JobConflict."""
        again = {"started_at": None, "finished_at": None, "expires_at": None, "error": None, "progress": None}
        return self._change(job_id, "retry", deaths=0, **again)

    def forget(self, job_id: str) -> None:
        """Remove a job that is over from the store; its video stays. Raises JobNotFound or JobConflict."""
        with self.writing() as connection:
            job = self._get(connection, job_id)
            if not job.is_over:
                raise JobConflict(f"{job_id} is {job.state}; cancel it first, then forget it.")
            connection.execute(delete(JOBS).where(JOBS.c.seq == job.seq))
            self._tell(connection, job_id, "state", {"state": "forgotten"})

    def rate(self, job_id: str, rating: int) -> StoredJob:
        """Note how much a finished video is liked. Raises JobNotFound, or JobConflict when there is no video."""
        with self.writing() as connection:
            job = self._get(connection, job_id)
            if job.state != "done":
                raise JobConflict(f"{job_id} is {job.state}; rate it when its video is done.")
            output = json.dumps((job.output or {}) | {"rating": rating})
            connection.execute(update(JOBS).where(JOBS.c.seq == job.seq).values(output=output))
            self._tell(connection, job_id, "rating", {"rating": rating})
            return self._get(connection, job_id)

    def purge_queue(self) -> int:
        """Cancel every job that waits; how many."""
        with self.writing() as connection:
            waiting = connection.execute(select(JOBS).where(WAITS)).all()
            for row in waiting:
                self._move(connection, from_row(row), "cancel", finished_at=self._clock(), **UNHELD)
            return len(waiting)

    def events(self, after: int, limit: int = 200, job_id: str | None = None) -> list[StoredEvent]:
        """What happened after the event number `after`, in order."""
        query, more = (NEWS, {}) if job_id is None else (NEWS_OF_JOB, {"of_job": job_id})
        with self.reading() as connection:
            return [
                StoredEvent(row.seq, row.job_id, row.kind, json.loads(row.data), row.at)
                for row in connection.execute(query, {"after": after, "most": limit} | more)
            ]

    def first_event(self) -> int:
        """The number of the oldest event that is still known, 0 when there is none."""
        with self.reading() as connection:
            return int(connection.scalar(select(func.min(EVENTS.c.seq))) or 0)

    def last_event(self) -> int:
        """The number of the latest event, 0 when there is none."""
        with self.reading() as connection:
            return int(connection.scalar(select(func.max(EVENTS.c.seq))) or 0)

    # --- workers -----------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int, lease: float) -> list[StoredJob]:
        """Up to `limit` waiting jobs, now running and held for `lease` seconds; nobody else gets them.

        By priority, then in order of submission. Of several places the first is for whoever waits longest, so that a
        stream of urgent jobs starves nobody.
        """
        waiting = select(JOBS).where(WAITS)
        urgent = waiting.order_by(JOBS.c.priority.desc(), JOBS.c.seq).limit(limit)
        with self.writing() as connection:
            rows = {row.id: row for row in connection.execute(urgent)}
            if limit > 1:
                first = select(func.min(JOBS.c.seq)).where(WAITS)
                oldest = connection.execute(waiting.where(JOBS.c.seq == first.scalar_subquery())).first()
                rows = ({oldest.id: oldest} if oldest else {}) | rows
            now = self._clock()
            claimed = []
            for row in list(rows.values())[:limit]:
                job = from_row(row)
                held = {"worker": worker, "token": secrets.token_hex(8), "lease_until": now + lease}
                moved = self._move(
                    connection, job, "claim", attempts=job.attempts + 1, started_at=job.started_at or now, **held
                )
                claimed.append(moved)
            return claimed

    def beat(self, held: Iterable[StoredJob], lease: float) -> set[str]:
        """Prolong the leases of claimed jobs; the ids of those that still belong to their claims."""
        with self.writing(durable=False) as connection:
            return {job.id for job in held if self._touch(connection, job, lease_until=self._clock() + lease)}

    def progress(self, job: StoredJob, kind: str, data: dict[str, Any]) -> bool:
        """Record how far a claimed job is, or tell something else of it. False when it is no longer this claim's."""
        # What is no progress, such as a preview, leaves what is known of that.
        progress = json.dumps(data) if kind == "progress" else JOBS.c.progress
        # Told many times a second, and after a power cut of no worth: the job goes on from its last artifact.
        with self.writing(durable=False) as connection:
            if not self._touch(connection, job, progress=progress):
                return False
            self._tell(connection, job.id, kind, data)
            return True

    def finish(self, job: StoredJob, output: dict[str, Any]) -> bool:
        """The claimed job is done. False when it is no longer this claim's."""
        return self._settle(job, "finish", output=json.dumps(output), error=None, finished_at=self._clock())

    def fail(self, job: StoredJob, error: Wan2I2VError) -> bool:
        """The claimed job failed. False when it is no longer this claim's."""
        return self._settle(job, "fail", error=json.dumps(error.to_dict()), finished_at=self._clock())

    def release(self, job: StoredJob) -> bool:
        """Put the claimed job back into the queue, at its old place. False when it is no longer this claim's."""
        return self._settle(job, "release")

    def died(self, job: StoredJob, error: Wan2I2VError) -> bool:
        """The claimed job ended its worker: back into the queue, or set aside the third time."""
        deaths = job.deaths + 1
        if deaths < MAX_DEATHS:
            return self._settle(job, "release", deaths=deaths, error=json.dumps(error.to_dict()))
        reason = SetAside(f"the job ended its worker {deaths} times and was set aside. The last time, {error}")
        return self._settle(
            job, "give_up", deaths=deaths, error=json.dumps(reason.to_dict()), finished_at=self._clock()
        )

    def recover(self, worker: str) -> int:
        """Put back what `worker` held; for its successor, who owns its device now. How many."""
        return self._release_where(JOBS.c.worker == worker)

    # --- housekeeping ------------------------------------------------------------------------------------------------

    def reclaim(self) -> int:
        """Put back jobs whose lease lapsed: their worker is gone. How many."""
        return self._release_where(JOBS.c.lease_until < self._clock())

    def expire(self) -> list[StoredJob]:
        """Time out jobs that are older than their time to live, or run longer than they may."""
        now = self._clock()
        too_old = (JOBS.c.expires_at < now) & JOBS.c.state.not_in(TERMINAL)
        too_long = (JOBS.c.state == "running") & (JOBS.c.started_at + JOBS.c.execution_timeout < now)
        query = select(JOBS).where(too_old | too_long)
        with self.reading() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []
        error = {"code": "timed_out", "message": "the job's time to live or its execution timeout passed."}
        with self.writing() as connection:
            return [
                self._move(connection, from_row(row), "expire", finished_at=now, error=json.dumps(error), **UNHELD)
                for row in connection.execute(query).all()
            ]

    def prune(self, before: float) -> int:
        """Forget jobs that ended before the time `before`, and all events as old; how many jobs. Videos stay."""
        old = JOBS.c.state.in_(TERMINAL) & (JOBS.c.finished_at < before)
        # The first event is the oldest, but where a clock was set back: then its time comes a little later.
        first = select(EVENTS.c.at).order_by(EVENTS.c.seq).limit(1)
        with self.reading() as connection:
            oldest = connection.scalar(first)
        if oldest is None or oldest >= before:
            return 0
        with self.writing() as connection:
            connection.execute(delete(EVENTS).where(EVENTS.c.at < before))
            return int(connection.execute(delete(JOBS).where(old)).rowcount)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _find(self, connection: Connection, job_id: str) -> StoredJob | None:
        row = connection.execute(FIND, {"job_id": job_id}).first()
        return None if row is None else from_row(row)

    def _find_all(self, connection: Connection, job_ids: Sequence[str]) -> dict[str, StoredJob]:
        if not job_ids:
            return {}
        return {row.id: from_row(row) for row in connection.execute(FIND_ALL, {"ids": list(job_ids)})}

    def _get(self, connection: Connection, job_id: str) -> StoredJob:
        job = self._find(connection, job_id)
        if job is None:
            raise JobNotFound(f"no job {job_id!r}; it was never submitted here, or is past its retention.")
        return job

    def _change(self, job_id: str, move: Move, **values: Any) -> StoredJob:
        with self.writing() as connection:
            return self._move(connection, self._get(connection, job_id), move, **values)

    def _settle(self, job: StoredJob, move: Move, **values: Any) -> bool:
        """Move a claimed job, when it still belongs to the claim, and let go of it."""
        with self.writing() as connection:
            current = self._find(connection, job.id)
            if current is None or current.token != job.token or current.state != "running":
                return False
            self._move(connection, current, move, **(UNHELD | values))
            return True

    def _touch(self, connection: Connection, job: StoredJob, **values: Any) -> bool:
        mine = (JOBS.c.id == job.id) & (JOBS.c.token == job.token) & (JOBS.c.state == "running")
        return bool(connection.execute(update(JOBS).where(mine).values(**values)).rowcount)

    def _release_where(self, condition: Any) -> int:
        query = select(JOBS).where((JOBS.c.state == "running") & condition)
        with self.reading() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return 0
        with self.writing() as connection:
            rows = connection.execute(query).all()
            for row in rows:
                self._move(connection, from_row(row), "release", **UNHELD)
            return len(rows)

    def _move(self, connection: Connection, job: StoredJob, move: Move, **values: Any) -> StoredJob:
        """The only place where a state changes. Raises JobConflict for a move that the table does not have."""
        new = states.after(job.state, move, job.id)
        connection.execute(update(JOBS).where(JOBS.c.seq == job.seq).values(state=new, **values))
        moved = self._get(connection, job.id)
        if moved.is_over:
            outbox.enqueue(connection, moved, self._clock())
        self._tell(connection, job.id, "state", {"state": new, "error": moved.error})
        return moved

    def _tell(self, connection: Connection, job_id: str, kind: str, data: dict[str, Any]) -> None:
        connection.execute(ADD_EVENTS, self._event(job_id, kind, data))

    def _event(self, job_id: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"job_id": job_id, "kind": kind, "data": json.dumps(data), "at": self._clock()}
