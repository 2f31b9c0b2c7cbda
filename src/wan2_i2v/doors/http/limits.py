"""How much one client may ask, and how much of a body the server takes. Imported by the gate.

`RateLimiter` is a bucket of requests per client that refills steadily. `receive_body` takes a body whole before the
application sees the request: what is too large or too slow is refused while it arrives.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from wan2_i2v.doors.http.errors import BodyTimeout, Busy, TooLarge, TooMany
from wan2_i2v.doors.http.settings import HttpSettings

MAX_CLIENTS = 10_000
"""Clients remembered; the one that was silent longest is forgotten first."""


class RateLimiter:
    """At most `burst` requests at once and `rate` per second on average, for each client. For one event loop."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count one request. Raises TooMany, saying when the next one will be taken."""
        now = self._clock()
        left, since = self._buckets.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._rate)
        self._buckets[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise TooMany(
                f"more than {self._rate:g} requests per second; wait a moment.", max(1.0, (1 - left) / self._rate)
            )


def replayed(message: Message, receive: Receive) -> Receive:
    """`message`, which was received already and is let go of then; after it whatever the server says (that the client is gone)."""
    waiting = [message]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


class Bodies:
    """Receives bodies; all that are on their way share one budget of memory."""

    def __init__(self, settings: HttpSettings) -> None:
        self._limit, self._seconds = settings.max_body_bytes, settings.body_seconds
        self._room = settings.max_buffered_bytes

    async def receive(self, headers: Headers, receive: Receive, limit: int | None = None) -> bytearray:
        """The whole body. `limit` replaces the general limit. Give its length back with `release` when it is used.

        Raises TooLarge, BodyTimeout, Busy when all bodies together are too large, ClientDisconnect.
        """
        most = self._limit if limit is None else limit
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > most:
            raise self._too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                await self._fill(body, receive, most)
        except TimeoutError:
            self.release(len(body))
            raise BodyTimeout(f"the body did not arrive within {self._seconds:g} s.") from None
        except BaseException:
            self.release(len(body))
            raise
        return body

    def release(self, size: int) -> None:
        self._room += size

    async def _fill(self, body: bytearray, receive: Receive, most: int) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > most:
                raise self._too_large(most)
            if len(chunk) > self._room:
                raise Busy("too many large requests are being received; try again in a moment.")
            self._room -= len(chunk)
            body += chunk
            if not message.get("more_body", False):
                return

    def _too_large(self, most: int) -> TooLarge:
        return TooLarge(f"the body is larger than {most} bytes.")
