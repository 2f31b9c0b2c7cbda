"""What the routers share: the service, the settings, the events and how a job is told to webhooks. One per application.

Routers get it with `Depends(door)`; `client` is the name of whoever asks. Service and store block: use them in plain
`def` routes, which FastAPI runs in threads, or through `run_in_threadpool`. The dependencies wait for nothing and are
`async`: FastAPI would take each through a thread of its own. FastAPI's threads are few: what may take long, and what has to
be answered while others take long, has threads of its own (`Door.receiving`, `Door.looking`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from wan2_i2v.doors.http.events import Broadcaster
from wan2_i2v.doors.http.intake import Intake
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.doors.http.threads import Threads
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Service

Telling = Callable[["Door", StoredJob], dict[str, Any]]
"""A job as a webhook's body, in the shape of one kind of client."""
RECEIVED_AT_ONCE = 32
"""Submissions, which may fetch their pictures from slow servers."""
LOOKS_AT_ONCE = 4
"""Answers to /health."""


@dataclass
class Door:
    """`tellings`: the shape of a webhook by the option `door` of its job; "" is our own."""

    service: Service
    settings: HttpSettings
    broadcaster: Broadcaster
    tellings: dict[str, Telling] = field(default_factory=dict)
    receiving: Threads = field(default_factory=lambda: Threads(RECEIVED_AT_ONCE))
    intake: Intake = field(init=False)
    looking: Threads = field(default_factory=lambda: Threads(LOOKS_AT_ONCE))

    def __post_init__(self) -> None:
        self.intake = Intake(self.service)


async def door(request: Request) -> Door:
    """The dependency that gives routers their Door."""
    found = request.app.state.door
    assert isinstance(found, Door)
    return found


async def client(request: Request) -> str:
    """The dependency that names who asks: by token or address; for limits, not for display."""
    return str(request.state.client)
