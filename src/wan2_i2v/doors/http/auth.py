"""Who may speak to the server: bearer tokens, the page's session cookie, and requests that other sites make browsers send.

Comes in: the headers of a request. Goes out: a client's name for limits, or Unauthorized, Forbidden or Misdirected.
Tokens are compared as digests in constant time and are never logged. Imported by the gate and the session route.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

from wan2_i2v.doors.http.errors import Forbidden, Unauthorized
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.errors import Wan2I2VError

COOKIE = "wan2_i2v_session"
SESSION_SECONDS = 30 * 86_400
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


class Misdirected(Wan2I2VError):
    """The request names a host that this server is not: a browser was led here by another site's DNS."""

    code, http_status = "misdirected", 421


class Authenticator:
    """See the module."""

    def __init__(self, settings: HttpSettings) -> None:
        self._digests = [_digest(token) for token in settings.tokens]
        self._hosts = settings.hosts | {"localhost", settings.host.lower()}

    def check(self, method: str, headers: Headers, address: str, *, public: bool) -> str:
        """The name of the client: a short digest of its token, or its address.

        `public` paths need no token. Raises Unauthorized, Forbidden for a request that another site made, Misdirected.
        """
        if not self._digests:
            self._check_host(headers)
            check_origin(method, headers, required=False)
            return address
        if public:
            check_origin(method, headers, required=False)
            return address
        given = headers.get("authorization", "")
        if given:
            # The old service's own documentation sends the bare key; its clients send it as a bearer token.
            token = given[7:].strip() if given[:7].lower() == "bearer " else given.strip()
            return self._named(token)
        if self._has_session(headers):
            check_origin(method, headers, required=True)
            return f"{address} session"
        raise Unauthorized("this server needs a token: send the header Authorization: Bearer <token>.")

    def session(self, token: str) -> str:
        """The value of the cookie that stands for `token` from now on. Raises Unauthorized for a wrong one."""
        if self._digests:
            self._named(token)
        expires = str(int(time.time()) + SESSION_SECONDS)
        return f"{expires}.{_signed(_digest(token), expires)}"

    def _named(self, token: str) -> str:
        given = _digest(token)
        # All are compared, so that the time tells nothing of which one nearly matched.
        if not sum(hmac.compare_digest(given, known) for known in self._digests):
            raise Unauthorized("the token is wrong.")
        return f"token {given.hex()[:12]}"

    def _has_session(self, headers: Headers) -> bool:
        expires, _, signature = _cookie(headers).partition(".")
        if not signature or not expires.isdigit() or len(expires) > 12 or int(expires) < time.time():
            return False
        return bool(sum(hmac.compare_digest(signature, _signed(known, expires)) for known in self._digests))

    def _check_host(self, headers: Headers) -> None:
        """Without a token anyone who reaches the server may use it; a page on a foreign name may not."""
        host = _host_name(headers.get("host", ""))
        if host in self._hosts or _is_address(host):
            return
        raise Misdirected(
            f"this server has no token and is not addressed as {host or 'nothing'!r}; use its address, or name that "
            "host in WAN2_I2V_ALLOWED_HOSTS."
        )


def check_origin(method: str, headers: Headers, *, required: bool) -> None:
    """Refuse a changing request that a page of another site made a browser send.

    `required`: the browser must say where the request comes from. Raises Forbidden.
    """
    if method in SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        if required:
            raise Forbidden("a session may change things only from this server's own page (no Origin was sent).")
        return
    same = site == "same-origin" or (site == "none" and not required)
    if site is None and origin is not None:
        same = origin.lower() in (f"{scheme}://{headers.get('host', '').lower()}" for scheme in ("http", "https"))
    if not same:
        raise Forbidden("this request was made by a page of another site.")


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _host_name(host: str) -> str:
    """The name in a Host header without its port, brackets off an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _signed(key: bytes, expires: str) -> str:
    return hmac.new(key, f"session {expires}".encode(), hashlib.sha256).hexdigest()
