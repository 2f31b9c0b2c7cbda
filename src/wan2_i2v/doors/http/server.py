"""The server itself: a socket, uvicorn, the service, and an orderly end. Imported by `wan2-i2v serve` and by tests.

SIGTERM or Ctrl-C ends it: event streams close, answers on their way are finished, the job being computed stops with
every artifact that it has, and goes on when a server starts again. A second signal does not wait for answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wan2_i2v.doors.http.app import create_app
from wan2_i2v.doors.http.gate import MAX_HEADER_BYTES
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.jobs.service import Service, ServiceSettings

log = logging.getLogger(__name__)

HEADER_SECONDS = 20.0
KEEP_ALIVE_SECONDS = 15
GOODBYE_SECONDS = 10
BACKLOG = 512
GARBAGE = (20_000, 20, 100)
"""How many new objects, and collections of the younger ones, there are before the next look for garbage."""
SWITCH_SECONDS = 0.001
"""How long a thread computes before another that waits has its turn. An answer changes threads a few times, and Python's own 5 ms
are waited for each time."""


def check_address(settings: HttpSettings) -> None:
    """Raise InvalidRequest for an address that others can reach while there is no token."""
    if settings.is_public and not settings.tokens and not settings.without_token:
        raise InvalidRequest(
            "host",
            settings.host,
            "an address of this machine only, such as 127.0.0.1, while there is no token",
            "Set WAN2_I2V_TOKEN to a long random text; or, where nobody else reaches the port, say --without-token.",
        )


def serve(settings: HttpSettings, service_settings: ServiceSettings) -> None:
    """Serve until a signal. Raises InvalidRequest for an address that cannot be used, DeviceBusy."""
    check_address(settings)
    sys.setswitchinterval(SWITCH_SECONDS)
    with contextlib.closing(_listen(settings)) as listener:
        port = listener.getsockname()[1]
        url = f"http://{_own_name(settings.host)}:{port}"
        service = Service(
            replace(
                service_settings,
                url=settings.advertised_url or url,
                max_pixels=settings.max_pixels,
                max_queued_per_client=settings.max_queued_per_client,
            )
        )
        service.start()
        try:
            server = Server(service, settings)
            # What the modules hold stays for good. To look through it for garbage took 0.2 s, in which nobody was answered;
            # to look through all that is remembered of jobs takes 0.02 s, and is seldom worth it.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE)
            log.info("%s on %s at %s", service.model.name, service.device.label, url)
            with _signals(server):
                server.run([listener])
        finally:
            service.stop()
    log.info("stopped; jobs that wait go on when a server starts again")


class Server(uvicorn.Server):
    """uvicorn's server, which ends event streams before it waits for connections to close."""

    def __init__(self, service: Service, settings: HttpSettings) -> None:
        app = create_app(service, settings)
        self._broadcaster = app.state.door.broadcaster
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GOODBYE_SECONDS,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._broadcaster.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours do more: uvicorn's would end the process before the worker has stopped."""
        yield


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 on a connection that does not wait for ever for a request's headers, nor takes any length of them."""

    _watch: asyncio.TimerHandle | None = None
    _reads_head = False
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch_headers(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reads_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._reads_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._reads_head:
            # A head that has ended is measured by the gate; of one that does not end the parser would keep all that comes.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's headers are too long.")

    def _watch_headers(self, before: object) -> None:
        """Close when no new request has begun since the last look and none is being answered."""
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and before == (self.cycle,):
            self.transport.close()
            return
        seen = (self.cycle,) if waiting else None
        self._watch = self.loop.call_later(HEADER_SECONDS, self._watch_headers, seen)


@contextlib.contextmanager
def _signals(server: Server) -> Iterator[None]:
    """The first signal asks the server to end, a second one not to wait for answers."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(settings: HttpSettings) -> socket.socket:
    """A listening socket. Raises InvalidRequest when the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidRequest(
            "host and port",
            f"{settings.host}:{settings.port}",
            "an address of this machine that no other program listens on",
            f"{error.strerror or error}. Choose another --port, or stop that program.",
        ) from None


def _own_name(host: str) -> str:
    """How this machine reaches the server."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if address.version == 6 else host
