"""What the server fetches of a stranger's URL, and what it never connects to."""

from __future__ import annotations

import socket
from dataclasses import replace

import httpcore2
import pytest
from local_server import peer

from wan2_i2v.doors.http import urls
from wan2_i2v.doors.http.errors import UrlRefused
from wan2_i2v.doors.http.urls import Guard

PRIVATE = (
    *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::8.8.8.8"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:1::1", "2001:0:7f00:1::"),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "93.184.215.14", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808")

LOOPBACK_SPELLINGS = (
    *("127.0.0.1", "localhost", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433"),
    *("017700000001", "0", "[::1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::]", "0.0.0.0"),
)


@pytest.mark.parametrize("address", PRIVATE)
def test_these_addresses_are_private(address):
    assert not urls.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_these_addresses_are_public(address):
    assert urls.is_public(address)


@pytest.fixture
def other():
    with peer() as told:
        yield told


@pytest.fixture
def guard(other):
    """Limits under which the test's own server is trusted."""
    return Guard(10_000, 10, 3, frozenset((f"127.0.0.1:{other.port}",)))


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_no_spelling_of_loopback_is_connected_to(other, host):
    with pytest.raises(UrlRefused):
        urls.fetch(f"http://{host}:{other.port}/a", Guard(1000, 5))
    assert other.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a",
        "file:///etc/passwd",
        "gopher://example.com",
        "http://",
        "http:///a",
        "http://user@example.com/",
        "http://user:word@example.com/",
        "http://a@127.0.0.1:80@example.com/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://exam ple.com/",
        "http://example.com/a\r\nX: y",
        "http://example.com\\@127.0.0.1/",
        "http://[::1/",
        "http://exämple.com/",
        "//example.com/",
        "http://example.com/" + "a" * 5000,
    ],
)
def test_malformed_urls_are_refused_before_any_look_up(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: pytest.fail("looked up"))
    with pytest.raises(UrlRefused):
        urls.fetch(url, Guard(1000, 5))


def test_a_fetch_and_its_redirects(other, guard):
    other.answers = {
        "/a": (200, {}, b"content"),
        "/b": (302, {"Location": "/a"}, b""),
        "/c": (301, {"Location": f"{other.url}/b"}, b""),
        "/loop": (307, {"Location": "/loop"}, b""),
        "/gone": (410, {}, b""),
    }
    assert urls.fetch(f"{other.url}/c", guard) == b"content"
    with pytest.raises(UrlRefused, match="more than 3 redirects"):
        urls.fetch(f"{other.url}/loop", guard)
    with pytest.raises(UrlRefused, match="status 410"):
        urls.fetch(f"{other.url}/gone", guard)


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:1/",
        "http://[::ffff:127.0.0.1]:1/",
        "//10.0.0.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
    ],
)
def test_a_redirect_leads_nowhere_that_a_url_may_not(other, guard, target):
    other.answers = {"/a": (302, {"Location": target}, b"")}
    with pytest.raises(UrlRefused):
        urls.fetch(f"{other.url}/a", guard)


def test_too_much_and_too_slow(other, guard):
    other.answers = {"/a": (200, {}, b"x" * 10_001), "/b": (200, {"Content-Length": "3"}, b"xyz")}
    with pytest.raises(UrlRefused, match="more than 10000 bytes"):
        urls.fetch(f"{other.url}/a", guard)
    other.drip_seconds = 0.3
    with pytest.raises(UrlRefused, match="not received within"):
        urls.fetch(f"{other.url}/a", replace(guard, seconds=0.5))
    assert urls.fetch(f"{other.url}/b", guard) == b"xyz"


def test_compressed_answers_are_not_unpacked(other, guard):
    other.answers = {"/a": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8bbomb")}
    assert urls.fetch(f"{other.url}/a", guard) == b"\x1f\x8bbomb"
    assert other.asked[0][2]["Accept-Encoding"] == "identity"


def found(*addresses: str) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]


def test_the_name_is_resolved_once_and_the_connection_goes_to_that_address(monkeypatch):
    """A name server that answers first with a public address and then with a private one gains nothing."""
    answers = iter([found("93.184.215.14"), found("127.0.0.1")])
    connected = []

    def connect(self, host, port, *more):
        connected.append(host)
        raise httpcore2.ConnectError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: next(answers))
    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    with pytest.raises(UrlRefused):
        urls.fetch("http://rebinding.example/", Guard(1000, 5))
    assert connected == ["93.184.215.14"]


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found("93.184.215.14", "10.0.0.1"))
    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", lambda *args: pytest.fail("connected"))
    with pytest.raises(UrlRefused, match=r"10\.0\.0\.1"):
        urls.fetch("http://mixed.example/", Guard(1000, 5))


def test_proxies_of_the_environment_are_not_used(other, guard, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    other.answers = {"/a": (200, {}, b"direct")}
    assert urls.fetch(f"{other.url}/a", guard) == b"direct"
