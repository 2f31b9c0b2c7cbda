"""What happens to jobs, told to any number of listeners by one reader of the store.

Comes in: the store's events. Goes out: server-sent events as bytes, made once, when somebody listens, and shared by every
stream, and the end of a job for those who wait for it. A listener is a position in the list of the latest events: it owns no thread and no
queue, so that hundreds of open streams cost nothing while nothing happens. Imported by the application and the routers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from wan2_i2v.doors.http.errors import TooMany
from wan2_i2v.jobs.errors import StoreUnavailable
from wan2_i2v.jobs.job import StoredEvent, StoredJob
from wan2_i2v.jobs.store import Store

log = logging.getLogger(__name__)

KEPT = 4096
"""Events that a stream may miss before it is told to load everything anew."""
REPLAYED = 500
"""How many events of before its start a server still tells."""
POLL_SECONDS = 0.1
READ_AT_ONCE = 200
RETRY_SECONDS = 1.0
COMMENT_SECONDS = 15.0
OPENING = b"retry: 2000\n\n"

Describe = Callable[[StoredEvent], dict[str, Any]]


@dataclass
class _Told:
    """An event, and its bytes once they were wanted: to describe a job takes longer than to store what happened to it."""

    event: StoredEvent
    encoded: bytes | None = None


class Broadcaster:
    """`run` it once in the server's event loop. `describe` gives the `data` of an event; it may block."""

    def __init__(self, store: Store, describe: Describe, max_streams: int) -> None:
        self._store, self._describe, self._max_streams = store, describe, max_streams
        self._recent: deque[_Told] = deque(maxlen=KEPT)
        self._floor = self._latest = 0
        self._begun = False
        self._news = asyncio.Event()
        self._describing = asyncio.Lock()
        self.closing = asyncio.Event()
        self.streams = 0

    async def run(self) -> None:
        """Read the store until cancelled. A database that does not answer is asked again."""
        while True:
            try:
                if not self._begun:
                    self._floor = self._latest = await run_in_threadpool(self._beginning)
                    self._begun = True
                events = await run_in_threadpool(self._store.events, self._latest, READ_AT_ONCE)
            except Exception as error:
                # Anything at all: without this loop no stream lives, and the next turn may succeed.
                log.warning("events cannot be read: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._take(events)
            await asyncio.sleep(0 if len(events) == READ_AT_ONCE else POLL_SECONDS)

    def close(self) -> None:
        """End all streams: the server stops."""
        self.closing.set()
        self._announce()

    def check_room(self) -> None:
        """Raise TooMany when no further stream may be opened."""
        if self.streams >= self._max_streams:
            raise TooMany(f"{self.streams} event streams are open already.", 10)

    async def stream(self, last: int | None) -> AsyncIterator[bytes]:
        """Server-sent events after event number `last`, from now on when it is None."""
        self.streams += 1
        try:
            yield OPENING
            position = self._latest if last is None else last
            while not self.closing.is_set():
                if position < self._floor or position > self._latest:
                    position = self._latest
                    yield _encoded(position, "reset", {})
                for told in await self._after(position):
                    assert told.encoded is not None
                    position = told.event.seq
                    yield told.encoded
                if position == self._latest and not await self._wait(COMMENT_SECONDS):
                    yield b": still here\n\n"
        finally:
            self.streams -= 1

    async def ended(self, job_id: str, seconds: float) -> StoredJob:
        """The job once it is over, or as it is after `seconds`, or when the server stops. Raises JobNotFound."""
        deadline = time.monotonic() + seconds
        while True:
            job = await run_in_threadpool(self._store.get, job_id)
            left = deadline - time.monotonic()
            if job.is_over or left <= 0 or self.closing.is_set():
                return job
            # Half a second at most: the job may have ended between the look and the wait.
            await self._wait(min(left, 0.5))

    async def _wait(self, seconds: float) -> bool:
        """Whether there was news within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
                return True
        return False

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _take(self, events: list[StoredEvent]) -> None:
        for event in events:
            if len(self._recent) == KEPT:
                self._floor = self._recent[0].event.seq
            self._recent.append(_Told(event))
            self._latest = event.seq
        if events:
            self._announce()

    async def _after(self, position: int) -> list[_Told]:
        """What came after the event number `position`, described; nothing as long as the database does not answer."""
        newer = list(itertools.takewhile(lambda told: told.event.seq > position, reversed(self._recent)))[::-1]
        async with self._describing:
            # Of all the streams that were woken by the same news, the first describes it.
            missing = [told for told in newer if told.encoded is None]
            if missing:
                try:
                    await run_in_threadpool(self._encode, missing)
                except StoreUnavailable as error:
                    log.warning("events cannot be described: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                    return []
        return newer

    def _encode(self, told: list[_Told]) -> None:
        for one in told:
            event = one.event
            data = {"job_id": event.job_id, "at": event.at} | self._describe(event)
            one.encoded = _encoded(event.seq, event.kind, data)

    def _beginning(self) -> int:
        """A little back, so that the clients of a server that was restarted go on where they were."""
        return max(0, self._store.last_event() - REPLAYED, self._store.first_event() - 1)


def _encoded(seq: int, kind: str, data: dict[str, Any]) -> bytes:
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
