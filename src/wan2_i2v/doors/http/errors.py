"""Every refusal of the HTTP door as one `Problem`, shown in the shape that the clients of each router know.

Comes in: errors of the package, of FastAPI, and what nobody foresaw. Goes out: JSON, never a stack trace. A router's
shape belongs to the beginnings of its paths; everything else has our own. Imported by the whole door.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from wan2_i2v.errors import Wan2I2VError, shorten

log = logging.getLogger(__name__)


class BadHead(Wan2I2VError):
    code, http_status = "bad_request", 400


class Unauthorized(Wan2I2VError):
    code, http_status = "unauthorized", 401


class Forbidden(Wan2I2VError):
    code, http_status = "forbidden", 403


class NotFound(Wan2I2VError):
    code, http_status = "not_found", 404


class BodyTimeout(Wan2I2VError):
    code, http_status = "body_timeout", 408


class TooLarge(Wan2I2VError):
    code, http_status = "too_large", 413


class NoPicture(Wan2I2VError):
    code, http_status = "no_picture", 415


class UrlRefused(Wan2I2VError):
    """A URL that the server will not fetch, or that gave nothing usable."""

    code, http_status = "url_refused", 422

    field: ClassVar[str] = "image"

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"field": self.field}


class HeadersTooLarge(Wan2I2VError):
    code, http_status = "headers_too_large", 431


class TooMany(Wan2I2VError):
    """Too many requests, streams or jobs of one client; `retry_after` in seconds."""

    code, http_status = "too_many", 429

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Busy(Wan2I2VError):
    code, http_status = "busy", 503
    retry_after = 1


@dataclasses.dataclass(frozen=True)
class Problem:
    """A refusal before it has a shape. `status` is the HTTP status, `field` the request's field at fault."""

    status: int
    code: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


Envelope = Callable[[Problem], dict[str, Any]]
"""How a router shows a problem."""


class ErrorDetail(BaseModel):
    code: str
    field: str | None
    message: str


class ErrorReply(BaseModel):
    """What every refusal of our own API looks like."""

    error: ErrorDetail


def own_envelope(problem: Problem) -> dict[str, Any]:
    return {"error": {"code": problem.code, "field": problem.field, "message": problem.message}}


class Shapes:
    """Which envelope a path has: that of the longest known beginning of it."""

    def __init__(self) -> None:
        self._shapes: list[tuple[str, Envelope]] = []

    def add(self, beginnings: Sequence[str], envelope: Envelope) -> None:
        self._shapes += [(beginning, envelope) for beginning in beginnings]
        self._shapes.sort(key=lambda shape: -len(shape[0]))

    def of(self, path: str) -> Envelope:
        for beginning, envelope in self._shapes:
            if path == beginning or path.startswith(beginning.rstrip("/") + "/"):
                return envelope
        return own_envelope


def problem_of(error: Exception) -> Problem:
    """Any error as a problem; one that nobody foresaw tells the client nothing of the inside."""
    if isinstance(error, Wan2I2VError):
        told = error.to_dict()
        wait = getattr(error, "retry_after", None)
        headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
        if error.http_status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Problem(error.http_status, error.code, str(error), told.get("field"), headers)
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return Problem(error.status_code, code, str(error.detail), None, error.headers or {})
    return Problem(500, "error", "something went wrong inside the server; its log has the details.")


def _invalid(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    name = ".".join(names) or None
    if first["type"] == "json_invalid":
        return Problem(422, "invalid_request", f"the body is no JSON: {first['ctx']['error']}.")
    given = "" if first.get("input") is None else f" (got {shorten(first['input'])})"
    return Problem(422, "invalid_request", f"{name or 'the body'}: {first['msg']}{given}.", name)


def reply(problem: Problem, envelope: Envelope) -> JSONResponse:
    return JSONResponse(envelope(problem), problem.status, headers=dict(problem.headers))


def answer(error: Exception, scope: Scope, shapes: Shapes) -> JSONResponse:
    """What a client is told of an error, in its router's shape; the log is told of those that nobody foresaw."""
    problem = problem_of(error)
    if problem.status == 500:
        log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    return reply(problem, shapes.of(scope["path"]))


def install(app: FastAPI, shapes: Shapes) -> None:
    """Answer every error of every route in its router's shape."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return answer(error, request.scope, shapes)

    for kind in (Wan2I2VError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)


EVERYWHERE = (400, 401, 403, 408, 413, 421, 422, 429, 431, 500, 503)
"""Statuses that any route can refuse with."""


def documented(*statuses: int, model: type[BaseModel] = ErrorReply) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the refusals that a route can answer with, in its router's shape, beside those that all can."""
    return {
        status: {"model": model, "description": HTTPStatus(status).phrase}
        for status in sorted({*EVERYWHERE, *statuses})
    }
