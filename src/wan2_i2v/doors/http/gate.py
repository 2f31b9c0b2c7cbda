"""The first thing that every request meets, before any route: host, token, rate, body, and the headers of every answer.

ASGI in, ASGI out, around the whole of FastAPI. A request that comes through has its client's name in `scope["state"]["client"]` and its body whole in
memory, so that no route waits for a slow client. Imported by the application.
"""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan2_i2v.doors.http.auth import Authenticator
from wan2_i2v.doors.http.errors import BadHead, HeadersTooLarge, Shapes, problem_of, reply
from wan2_i2v.doors.http.limits import Bodies, RateLimiter, replayed
from wan2_i2v.doors.http.metrics import Metrics
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.errors import Wan2I2VError

PUBLIC = frozenset(("/", "/healthz", "/api/session", "/favicon.ico"))
"""Paths that need no token; so do those below /static/."""
MAX_HEADER_BYTES = 32 * 1024
SMALL_BODY = 64 * 1024
"""The most that a client without a token may send."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


HEADERS = _encoded(_HEADERS | {"Cache-Control": "no-store"})
# The page's files are asked for anew each time, so that an update never mixes old modules with new ones.
HEADERS_OF_PAGE = _encoded(_HEADERS | {"Cache-Control": "no-cache"})


class Gate:
    """See the module."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, shapes: Shapes, metrics: Metrics) -> None:
        self._app, self._shapes, self._metrics = app, shapes, metrics
        self._authenticator = Authenticator(settings)
        self._limiter = RateLimiter(settings.requests_per_second, settings.burst)
        self._bodies = Bodies(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, self._completed(scope, send))
        else:
            # No route takes a WebSocket; closing before accepting answers 403.
            await send({"type": "websocket.close", "code": 1008})

    def _completed(self, scope: Scope, send: Send) -> Send:
        """`send` that adds the headers that every answer has, and counts it."""
        begin = time.perf_counter()

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = HEADERS_OF_PAGE if scope["path"].startswith("/static/") else HEADERS
                message["headers"] = [*message["headers"], *(header for header in more if header[0] not in given)]
                self._metrics.answered(scope["method"], message["status"], time.perf_counter() - begin)
            await send(message)

        return completed

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            body = await self._admit(scope, headers, receive)
        except Wan2I2VError as refusal:
            problem = problem_of(refusal)
            response = reply(problem, self._shapes.of(scope["path"]))
            # What is left of the body will not be read, so the connection cannot be used again.
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        except ClientDisconnect:
            return
        self._bodies.release(len(body))
        message = {"type": "http.request", "body": bytes(body), "more_body": False}
        body.clear()
        await self._app(scope, replayed(message, receive), send)

    async def _admit(self, scope: Scope, headers: Headers, receive: Receive) -> bytearray:
        _check_head(scope, headers)
        path, method = scope["path"], scope["method"]
        if len(scope["raw_path"]) + sum(len(name) + len(value) + 4 for name, value in headers.raw) > MAX_HEADER_BYTES:
            raise HeadersTooLarge(f"address and headers are larger than {MAX_HEADER_BYTES} bytes.")
        address = scope["client"][0] if scope.get("client") else "local"
        if path != "/healthz":
            self._limiter.take(address)
        public = path in PUBLIC or path.startswith("/static/")
        client = self._authenticator.check(method, headers, address, public=public)
        scope.setdefault("state", {})["client"] = client
        return await self._bodies.receive(headers, receive, SMALL_BODY if public else None)


def _check_head(scope: Scope, headers: Headers) -> None:
    """Refuse what others on the way could understand differently than this server. The parser lets it pass."""
    if scope["http_version"] == "1.1" and len(headers.getlist("host")) != 1:
        raise BadHead("a request names its host once.")
    if [coding.lower() for coding in headers.getlist("transfer-encoding")] not in ([], ["chunked"]):
        raise BadHead("the body's Transfer-Encoding is to be chunked, or none.")
