"""The web application: every router behind one gate. Imported by `wan2-i2v serve` and by tests.

Comes in: a service and settings. Goes out: a FastAPI application; its lifespan runs the events and the webhooks, not the
service itself, which belongs to whoever made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

import wan2_i2v
from wan2_i2v.doors.http import api_info, api_jobs, api_media, api_pictures, errors, page, views
from wan2_i2v.doors.http.direct import Direct
from wan2_i2v.doors.http.door import Door
from wan2_i2v.doors.http.events import Broadcaster
from wan2_i2v.doors.http.gate import Gate
from wan2_i2v.doors.http.metrics import Metrics
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.doors.http.webhooks import Sender
from wan2_i2v.jobs.service import Service

DESCRIPTION = "Turns pictures into videos. Refusals say what was given, what is allowed and what to do."
ROUTERS = ("runpod", "openai")
"""Modules of this package with the shapes of other services. Each has `router`, `PREFIXES` (the beginnings of its paths),
`envelope(problem)` and, when its clients can name a webhook, `DOOR` (the option `door` of its jobs) and
`telling(door, job)`. `background(door)` is a context in which it does what nobody waits for."""

OWN = (api_info, api_pictures, api_jobs, api_media)


def create_app(service: Service, settings: HttpSettings | None = None) -> FastAPI:
    """The application of a service. `settings` default to the environment's."""
    settings = settings or HttpSettings()
    store = service.store
    broadcaster = Broadcaster(store, lambda event: views.event_data(event, store), settings.max_streams)
    backgrounds: list[Callable[[Door], contextlib.AbstractContextManager[None]]] = []
    door = Door(service, settings, broadcaster, {"": lambda door, job: views.job_view(job, door.service.store)})

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sender = Sender(door)
        sender.start()
        reading = asyncio.create_task(broadcaster.run())
        running = contextlib.ExitStack()
        for background in backgrounds:
            running.enter_context(background(door))
        yield
        broadcaster.close()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(sender.stop)
        await asyncio.to_thread(running.close)

    app = _Application(
        title="wan2-i2v",
        version=wan2_i2v.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.door = door
    shapes = errors.Shapes()
    for name in ROUTERS:
        module = _include(app, name, door, shapes)
        if hasattr(module, "background"):
            backgrounds.append(module.background)
    for own in OWN:
        app.include_router(own.router)
    page.mount(app)
    app.state.metrics = Metrics()
    errors.install(app, shapes)
    app.front = Gate(Direct(app.behind, door, shapes), settings, shapes, app.state.metrics)
    return app


class _Application(FastAPI):
    """FastAPI with `front` around all of it: what its own middleware does costs a submission as much as all else before it."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)


def described() -> dict[str, Any]:
    """The OpenAPI schema of every router, without a service behind them."""
    app = FastAPI(title="wan2-i2v", version=wan2_i2v.__version__, description=DESCRIPTION)
    for name in ROUTERS:
        app.include_router(importlib.import_module(f"{__package__}.{name}").router)
    for own in OWN:
        app.include_router(own.router)
    return app.openapi()


def _include(app: FastAPI, name: str, door: Door, shapes: errors.Shapes) -> ModuleType:
    full = f"{__package__}.{name}"
    module = importlib.import_module(full)
    app.include_router(module.router)
    shapes.add(module.PREFIXES, module.envelope)
    if hasattr(module, "telling"):
        door.tellings[module.DOOR] = module.telling
    return module
