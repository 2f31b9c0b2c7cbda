"""Fetch a stranger's URL, or post to it, without becoming a way into the network behind the server.

Comes in: a URL. Goes out: the bytes it gave. Only http and https; the name is resolved once, every address it has must be
public, and the connection goes to the very address that was checked. A redirect is a new URL and is checked anew. Size,
time and redirects are limited, proxies from the environment are not used. Blocking; call it from a thread.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore2

from wan2_i2v.doors.http.errors import UrlRefused
from wan2_i2v.errors import shorten

REDIRECTS = frozenset((301, 302, 303, 307, 308))
PORTS = {"http": 80, "https": 443}
AGENT = "wan2-i2v"
MAX_URL = 4096


@dataclass(frozen=True)
class Guard:
    """Limits of one fetch. `trusted`: hosts, as `name` or `name:port`, that may be private."""

    max_bytes: int
    seconds: float
    max_redirects: int = 3
    trusted: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def fetch(url: str, guard: Guard) -> bytes:
    """What a GET of `url` gives, after redirects.

    Raises UrlRefused for an address that is not public, for what is too large, too slow, or no answer with status 200.
    """
    deadline = time.monotonic() + guard.seconds
    for _ in range(guard.max_redirects + 1):
        answer, location = _once("GET", url, b"", {}, guard, deadline)
        if location is None:
            if answer.status != 200:
                raise UrlRefused(f"{shorten(url)} answered with status {answer.status} instead of a picture.")
            return answer.body
        url = urljoin(url, location)
    raise UrlRefused(f"more than {guard.max_redirects} redirects, the last to {shorten(url)}.")


def post(url: str, body: bytes, headers: Mapping[str, str], guard: Guard) -> int:
    """POST `body`; the status of the answer. Redirects are not followed. Raises UrlRefused."""
    return send("POST", url, body, headers, guard)


def send(method: str, url: str, body: bytes, headers: Mapping[str, str], guard: Guard) -> int:
    """`post` with another method."""
    return _once(method, url, body, headers, guard, time.monotonic() + guard.seconds)[0].status


def check(url: str) -> SplitResult:
    """The parts of a URL whose form is allowed; nothing is resolved.

    Raises UrlRefused for other schemes, user names and malformed ones.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlRefused(f"{shorten(url)} is no URL.") from None
    if parts.scheme not in PORTS or not parts.hostname or len(url) > MAX_URL or port == 0:
        raise UrlRefused(f"{shorten(url)}: only http:// and https:// URLs with a host are fetched.")
    if "@" in parts.netloc:
        raise UrlRefused("a URL with a user name or password is not fetched; use one without.")
    if not url.isascii() or any(c.isspace() or ord(c) < 32 for c in url) or "\\" in url:
        raise UrlRefused(f"{shorten(url)}: percent-encode spaces and other special characters.")
    return parts


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also when IPv6 wraps an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _TRANSLATED else None)
        if wrapped is not None:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in net for net in _SPECIAL)


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses as an IPv6-only network sees them (RFC 6052)."""
_SPECIAL = [ipaddress.ip_network(net) for net in ("192.0.0.0/24", "192.88.99.0/24", "::/96", "2001::/23", "2002::/16")]
"""Assigned to protocols or wrapping another address; not all versions of Python count them as special."""


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, or of any spelling of an address (decimal, octal, hexadecimal). Raises UrlRefused."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UrlRefused(f"the host {shorten(host)} was not found ({error}).") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Pinned(httpcore2.SyncBackend):
    """Connects to an address that was checked, whatever the name resolves to by then."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = resolve(host, port)
        name = host.lower()
        if name not in self._trusted and f"{name}:{port}" not in self._trusted:
            # One private address among public ones is how a name is made to look harmless.
            for address in addresses:
                if not is_public(address):
                    raise UrlRefused(f"{shorten(host)} is {address}, which is not a public address.")
        return super().connect_tcp(addresses[0], port, timeout, local_address, socket_options)


def _once(
    method: str, url: str, body: bytes, headers: Mapping[str, str], guard: Guard, deadline: float
) -> tuple[Answer, str | None]:
    """One exchange; the second value is where a redirect leads."""
    parts = check(url)
    said = {"Host": parts.netloc, "User-Agent": AGENT, "Accept-Encoding": "identity", "Connection": "close", **headers}
    if body:
        said["Content-Length"] = str(len(body))
    timeout = min(guard.seconds, max(0.1, deadline - time.monotonic()))
    limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
    try:
        with (
            httpcore2.ConnectionPool(network_backend=_Pinned(guard.trusted)) as pool,
            pool.stream(method, url, headers=list(said.items()), content=body or None, extensions=limits) as response,
        ):
            said_back = {name.lower(): value for name, value in response.headers}
            location = said_back.get(b"location") if response.status in REDIRECTS else None
            if location is not None and method == "GET":
                return Answer(response.status, b""), location.decode("latin-1")
            return Answer(response.status, _limited(response.iter_stream(), url, guard, deadline)), None
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
        raise UrlRefused(f"{shorten(url)} did not answer ({type(error).__name__} {error}).") from None
    except httpcore2.UnsupportedProtocol as error:
        raise UrlRefused(f"{shorten(url)}: {error}.") from None


def _limited(chunks: Iterable[bytes], url: str, guard: Guard, deadline: float) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > guard.max_bytes:
            raise UrlRefused(f"{shorten(url)} has more than {guard.max_bytes} bytes.")
        if time.monotonic() > deadline:
            raise UrlRefused(f"{shorten(url)} was not received within {guard.seconds:g} s.")
    return bytes(body)
