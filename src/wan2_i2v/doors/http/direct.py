"""Submissions of our own API that are plainly in order, answered before FastAPI looks for their route.

A crowd submits hundreds of jobs a second, and FastAPI's layers (routing, dependencies, checks of the answer) took four fifths of what a
submission cost. Whatever is not plainly in order goes on to the route in `api_jobs`, unread, which says what is wrong with it.
Between the gate and the routes; imported by the application.
"""

from __future__ import annotations

import json

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan2_i2v.doors.http import api_jobs
from wan2_i2v.doors.http.api_models import JobBody
from wan2_i2v.doors.http.door import Door
from wan2_i2v.doors.http.errors import Shapes, answer
from wan2_i2v.doors.http.limits import replayed
from wan2_i2v.errors import Wan2I2VError


class Direct:
    """See the module."""

    def __init__(self, app: ASGIApp, door: Door, shapes: Shapes) -> None:
        self._app, self._door, self._shapes = app, door, shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/api/jobs" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        message = await receive()
        body = _in_order(scope, message)
        if body is None:
            await self._app(scope, replayed(message, receive), send)
            return
        try:
            response = await api_jobs.submit(body, self._door, scope["state"]["client"])
        except Exception as error:
            response = answer(error, scope, self._shapes)
        await response(scope, receive, send)


def _in_order(scope: Scope, message: Message) -> JobBody | None:
    headers = Headers(scope=scope)
    if headers.get("content-type") != "application/json" or "idempotency-key" in headers:
        return None
    try:
        return JobBody.model_validate(json.loads(message["body"]))
    except (ValueError, RecursionError, Wan2I2VError):
        return None
