"""What the routers share: the service, the settings, the events and how a job is told to webhooks. One per application.

Routers get it with `Depends(door)`; `client` is the name of whoever asks. Service and store block: use them in plain
`def` routes, which FastAPI runs in threads, or through `run_in_threadpool`. The dependencies wait for nothing and are
`async`: FastAPI would take each through a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from wan2_i2v.doors.http.events import Broadcaster
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Service

Telling = Callable[["Door", StoredJob], dict[str, Any]]
"""A job as a webhook's body, in the shape of one kind of client."""


@dataclass
class Door:
    """`tellings`: the shape of a webhook by the option `door` of its job; "" is our own."""

    service: Service
    settings: HttpSettings
    broadcaster: Broadcaster
    tellings: dict[str, Telling] = field(default_factory=dict)


async def door(request: Request) -> Door:
    """The dependency that gives routers their Door."""
    found = request.app.state.door
    assert isinstance(found, Door)
    return found


async def client(request: Request) -> str:
    """The dependency that names who asks: by token or address; for limits, not for display."""
    return str(request.state.client)
