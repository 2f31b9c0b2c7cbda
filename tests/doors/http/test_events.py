"""The broadcaster: events are described once, when somebody listens, and a database that is away ends no stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from wan2_i2v.doors.http import events
from wan2_i2v.doors.http.events import Broadcaster
from wan2_i2v.jobs.errors import StoreUnavailable
from wan2_i2v.jobs.job import NewJob, StoredEvent
from wan2_i2v.jobs.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/queue.db")
    yield store
    store.close()


async def first(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
    """The first events of a stream, and its opening before them."""
    found = []
    async with asyncio.timeout(60):
        async for event in stream:
            found.append(event)
            if len(found) > count:
                break
    await stream.aclose()
    return found[1:]


async def caught_up(broadcaster: Broadcaster, seq: int) -> None:
    async with asyncio.timeout(60):
        while broadcaster._latest < seq:
            await asyncio.sleep(0.01)


def add(store: Store, *names: str) -> int:
    for name in names:
        store.submit(NewJob(name, "d", "{}", "{}"))
    return store.last_event()


def test_events_are_described_once_and_only_for_those_who_listen(store):
    described: list[int] = []

    def describe(event: StoredEvent) -> dict[str, str]:
        described.append(event.seq)
        return {"state": event.data["state"]}

    async def scene() -> None:
        broadcaster = Broadcaster(store, describe, 10)
        running = asyncio.create_task(broadcaster.run())
        await caught_up(broadcaster, add(store, "a", "b", "c"))
        assert described == []
        both = await asyncio.gather(*(first(broadcaster.stream(1), 2) for _ in range(5)))
        assert described == [2, 3]
        assert all(one == both[0] for one in both)
        assert both[0][1].startswith(b'id: 3\nevent: state\ndata: {"job_id":"c"')
        running.cancel()

    asyncio.run(scene())


def test_a_stream_outlives_a_database_that_is_away(store, monkeypatch):
    monkeypatch.setattr(events, "RETRY_SECONDS", 0.01)
    refusals = [StoreUnavailable("away"), StoreUnavailable("still away")]

    def describe(event: StoredEvent) -> dict[str, str]:
        if refusals:
            raise refusals.pop()
        return {"state": "queued"}

    async def scene() -> None:
        broadcaster = Broadcaster(store, describe, 10)
        running = asyncio.create_task(broadcaster.run())
        await caught_up(broadcaster, add(store, "a"))
        assert len(await first(broadcaster.stream(0), 1)) == 1
        assert refusals == []
        running.cancel()

    asyncio.run(scene())
