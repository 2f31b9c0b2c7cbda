"""Threads for what blocks and must not wait for FastAPI's own, which are few. Imported by the door and the intake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """Calls that block, in up to `most` threads of their own."""

    def __init__(self, most: int) -> None:
        self._limiter = CapacityLimiter(most)

    def run(self, work: Callable[P, R], *args: P.args, **more: P.kwargs) -> Awaitable[R]:
        return to_thread.run_sync(partial(work, *args, **more), limiter=self._limiter)
