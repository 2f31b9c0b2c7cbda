"""Submissions of one event loop, accepted many at a time by one thread.

A thread for each would do: but they wait for each other, for Python's one processor, for the database and for the disk, and a crowd
waited twice as long. Here all that arrive while some are being accepted are accepted next, with one transaction and one
flush. Comes in: submissions that are quick (`Service.is_quick`). Goes out: each one's job as our own API shows it.
Imported by the door.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from wan2_i2v.doors.http import views
from wan2_i2v.doors.http.threads import Threads
from wan2_i2v.jobs.service import Service, Submission

Answer = tuple[dict[str, Any], bool]
"""A job's view, and whether it is new."""
AT_ONCE = 2
"""While some wait for the disk, the next ones are planned."""
PAUSE_SECONDS, GATHER_SECONDS = 0.001, 0.008
"""As long as more arrive in each pause they are waited for, but never longer than this: a transaction costs as much as three jobs."""
MOST = 64
"""Accepted at once: with more, the first of them would wait for all the others."""


class Intake:
    """See the module. For one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = Threads(AT_ONCE)
        self._waiting: list[tuple[Submission, asyncio.Future[Answer]]] = []
        self._working: set[asyncio.Task[None]] = set()

    async def submit(self, submission: Submission) -> Answer:
        """Raises what `Service.submit` raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((submission, answer))
        if len(self._working) < AT_ONCE:
            working = asyncio.create_task(self._work())
            self._working.add(working)
            working.add_done_callback(self._working.discard)
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            await self._gather()
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            found: Sequence[Answer | Exception]
            try:
                found = await self._threads.run(self._accepted, [submission for submission, _ in batch])
            except Exception as error:
                found = [error] * len(batch)
            for (_, answer), outcome in zip(batch, found, strict=True):
                if answer.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome)

    async def _gather(self) -> None:
        """Wait as long as more and more arrive."""
        deadline = time.monotonic() + GATHER_SECONDS
        count = 0
        while count < len(self._waiting) < MOST and time.monotonic() < deadline:
            count = len(self._waiting)
            await asyncio.sleep(PAUSE_SECONDS)

    def _accepted(self, submissions: Sequence[Submission]) -> list[Answer | Exception]:
        outcomes = self._service.submit_all(submissions)
        jobs = [outcome[0] for outcome in outcomes if not isinstance(outcome, Exception)]
        shown = iter(views.job_views(jobs, self._service.store))
        return [outcome if isinstance(outcome, Exception) else (next(shown), outcome[1]) for outcome in outcomes]
