"""The corpus of bad requests: each with the status that it is refused with. Sent by `test_bad_requests`, byte for byte."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from requests_http import SETTINGS, png

TOKEN = "corpus-token"
MAX_BODY, MAX_UPLOAD, MAX_PIXELS = 300_000, 200_000, 1_000_000
KEPT = "KEPT"
"""Stands for the id of a picture that the server has."""


@dataclass(frozen=True)
class Bad:
    """One request. `status` None: the connection is closed without an answer. `raw` replaces everything else."""

    name: str
    status: int | None
    method: str = "GET"
    path: str = "/api/jobs"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    token: str | None = f"Bearer {TOKEN}"
    raw: bytes = b""

    def message(self) -> bytes:
        if self.raw:
            return self.raw
        headers = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(self.body))}
        if self.token is not None:
            headers["Authorization"] = self.token
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (headers | self.headers).items() if value is not None]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


def posted(name: str, status: int, path: str, content: Any, **more: Any) -> Bad:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | more.pop("headers", {})
    return Bad(name, status, "POST", path, body, headers, **more)


def bomb(width: int, height: int) -> bytes:
    """A PNG that is small on the disk and has `width` × `height` pixels of one bit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min((width // 8 + 1) * height, 5_000_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG whose compressed text is 50 megabytes."""
    whole = png()
    packed = b"a\0\0" + zlib.compress(bytes(50_000_000), 9)
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    return whole[:33] + chunk + whole[33:]


def zip_bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("picture.png", bytes(20_000_000))
    return data.getvalue()


def corpus() -> list[Bad]:
    return [*tokens(), *traversal(), *fetches(), *pictures(), *bodies(), *settings(), *headers(), *methods()]


def tokens() -> Iterator[Bad]:
    for number, value in enumerate(
        (None, "", "Bearer", "Bearer ", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}")
    ):
        yield Bad(f"token {number}", 401, token=value)
    for value in (
        "Basic dXNlcjp3b3Jk",
        "Digest a",
        f"Bearer  {TOKEN.upper()}",
        "Bearer " + "x" * 9000,
        "Bearer \xff\xfe",
    ):
        yield Bad(f"token {value[:14]}", 401, token=value)
    yield Bad("forged session", 401, token=None, headers={"Cookie": "wan2_i2v_session=9999999999." + "0" * 64})
    yield Bad("empty session", 401, token=None, headers={"Cookie": "wan2_i2v_session="})
    yield Bad("session of words", 401, token=None, headers={"Cookie": "wan2_i2v_session=x.y.z; a=b; ="})
    yield Bad("token in the query", 401, path=f"/api/jobs?token={TOKEN}", token=None)
    for path in ("/metrics", "/openapi.json", "/api/events", "/health", "/v1/videos", "/v2/wan/health", "/api/nothing"):
        yield Bad(f"no token {path}", 401, path=path, token=None)
    yield posted("session with a wrong token", 401, "/api/session", {"token": "x"}, token=None)
    yield posted("session without a token", 422, "/api/session", {}, token=None)
    yield posted(
        "session of another site", 403, "/api/session", {}, token=None, headers={"Origin": "http://evil.example"}
    )
    yield Bad("large body before a token", 401, "POST", "/api/pictures", b"x" * 250_000, token=None)
    yield Bad("large body for everybody", 413, "POST", "/api/session", b"x" * 70_000, token=None)


def traversal() -> Iterator[Bad]:
    for name in (
        "../secret.png",
        "/etc/passwd",
        "input/../../secret.png",
        "~/secret.png",
        "..%2fsecret.png",
        ".",
        "..",
    ):
        yield posted(f"picture {name}", 422, "/run", {"input": {"image": name}})
    for name in ("link.png", "a\0b.png", "..\\secret.png", "/proc/self/environ", "file:///etc/passwd", "folder"):
        yield posted(f"picture {name!r}", 422, "/run", {"input": {"image": name}})
    for job_id in ("../x", "..", "/tmp/x", "a/b", "a\\b", ".hidden", "", "a" * 129, "a\0b", "queue.db", "a b", "-a"):
        body = {"picture": KEPT, "settings": SETTINGS, "job_id": job_id}
        yield posted(f"job id {job_id[:20]!r}", 422, "/api/jobs", body)
        if job_id:
            yield posted(f"old job id {job_id[:20]!r}", 422, "/run", {"input": {"image": "boat.png", "job_id": job_id}})
    for path in ("..%2f..%2fsecret.png", "%2e%2e", "a%2fb", ".hidden", "a%00b"):
        yield Bad(f"video of {path}", 404 if "%2f" in path.lower() else 422, path=f"/api/jobs/{path}/video")
    for path in (
        "../secret.png",
        "..%2f..%2fsecret.png",
        "%2e%2e/%2e%2e/secret.png",
        "....//secret.png",
        "/etc/passwd",
    ):
        yield Bad(f"static {path}", 404, path=f"/static/{path}")
    for picture in ("../../secret.png", "x", "0" * 63, "0" * 65, "G" * 64):
        yield posted(f"plan of {len(picture)} {picture[:9]}", 422, "/api/plan", {"picture": picture, "settings": {}})
    yield posted("plan of an unknown picture", 422, "/api/plan", {"picture": "0" * 64, "settings": {}})
    for name in ("output", "image", "job_id", "model", "device", "overwrite"):
        yield posted(f"setting {name}", 422, "/api/jobs", {"picture": KEPT, "settings": {name: "/tmp/x"}})
    for lora in ("/etc/passwd", "../x.safetensors", "~/x", "a/b", "a\\b"):
        yield posted(f"lora {lora}", 422, "/api/jobs", {"picture": KEPT, "settings": {"loras": [lora]}})


def fetches() -> Iterator[Bad]:
    hosts = (
        *("127.0.0.1", "localhost", "127.1", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001", "0177.0.0.1"),
        *(
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "2852039166",
        ),
        *(
            "[fd00:ec2::254]",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "localhost.",
            "LOCALHOST",
            "[fe80::1]",
        ),
    )
    for host in hosts:
        yield posted(f"fetch {host}", 422, "/run", {"input": {"image": f"http://{host}:9/a.png"}})
    for url in (
        "http://user:word@8.8.8.8/",
        "http://127.0.0.1\\@8.8.8.8/",
        "https://[::1",
        "http://:80/",
        "gopher://a/",
    ):
        yield posted(f"fetch {url}", 422, "/run", {"input": {"image": url}})
    for url in ("http://127.0.0.1:9/", "http://169.254.169.254/latest/meta-data/"):
        yield posted(f"openai {url}", 422, "/v1/videos", {"prompt": "x", "input_reference": {"image_url": url}})
    for url in ("ftp://a/", "file:///etc/passwd", "x", "", "http://user@a/"):
        yield posted(f"webhook {url}", 422, "/api/jobs", {"picture": KEPT, "settings": SETTINGS, "webhook": url})


def pictures() -> Iterator[Bad]:
    def upload(name: str, status: int, content: bytes) -> Bad:
        return Bad(name, status, "POST", "/api/pictures", content, {"Content-Type": "application/octet-stream"})

    whole = png()
    yield upload("nothing", 415, b"")
    yield upload("text", 415, b"hello")
    yield upload("a page", 415, b"<!doctype html><script>alert(1)</script>")
    yield upload("a drawing", 415, b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>')
    yield upload("PostScript", 415, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run")
    yield upload("a PDF", 415, b"%PDF-1.7\n")
    yield upload("an archive", 415, zip_bomb())
    yield upload("half a picture", 422, whole[: len(whole) // 2])
    yield upload("only the signature", 415, b"\x89PNG\r\n\x1a\n")
    yield upload("a pixel bomb", 422, bomb(30_000, 30_000))
    yield upload("a wide bomb", 422, bomb(900_000, 2))
    yield upload("a bomb beyond Pillow's limit", 422, bomb(2**31 - 1, 2**31 - 1))
    yield upload("a text bomb", 422, text_bomb())
    yield upload("a tiny picture", 422, png(8, 8))
    yield upload("noise", 415, bytes(range(256)) * 40)
    yield upload("too large", 413, b"\x89PNG" + bytes(MAX_UPLOAD))
    for kind, content in (("pixel bomb", bomb(30_000, 30_000)), ("archive", zip_bomb()), ("text", b"hello" * 60)):
        text = base64.b64encode(content).decode()
        yield posted(f"{kind} in base64", 422, "/run", {"input": {"image": text}})
        yield posted(f"{kind} as a data URI", 422, "/run", {"input": {"image": f"data:image/png;base64,{text}"}})
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    file = b'; filename="../../evil.png"'
    for name, status, content in (
        ("a form without a file", 422, part % (b"picture", b"", b"x") + b"--b--\r\n"),
        ("a form with a page", 415, part % (b"picture", file, b"<html>") + b"--b--\r\n"),
        ("a form of two files", 400, (part % (b"picture", file, b"x")) * 2 + b"--b--\r\n"),
        ("a form that ends early", 422, b"--b\r\nContent-Disposition: form-data; na"),
        ("an empty form", 422, b"--b--\r\n"),
        ("a form of many fields", 400, b"".join(part % (b"f%d" % n, b"", b"x") for n in range(50)) + b"--b--\r\n"),
    ):
        yield Bad(name, status, "POST", "/api/pictures", content, multipart)
    yield Bad("a form without a boundary", 400, "POST", "/api/pictures", b"x", {"Content-Type": "multipart/form-data"})


def bodies() -> Iterator[Bad]:
    deep = b"[" * 100_000
    for name, status, content in (
        ("no JSON", 422, b"{"),
        ("nothing", 422, b""),
        ("a list", 422, b"[]"),
        ("null", 422, b"null"),
        ("a number", 400, b"1" * 5000),
        ("broken text", 400, b'{"picture": "\xff\xfe"}'),
        ("deep nesting", 400, deep),
        ("an unknown field", 422, b'{"picture": "%s", "evil": 1}' % (b"0" * 64)),
        ("settings as a list", 422, b'{"picture": "%s", "settings": []}' % (b"0" * 64)),
    ):
        yield posted(f"plan of {name}", status, "/api/plan", content)
    yield posted("run of nothing", 422, "/run", {})
    yield posted("run of a list", 422, "/run", [])
    yield posted("run without a picture", 422, "/run", {"input": {}})
    yield posted("run with an unknown field", 422, "/run", {"input": {"image": "boat.png", "promt": "x"}})
    yield posted("run with two prompts", 422, "/run", {"input": {"image": "boat.png", "prompt": "x", "text": "y"}})
    yield posted("run with a picture of numbers", 422, "/run", {"input": {"image": [1, 2]}})
    yield Bad("a body that is too large", 413, "POST", "/api/plan", b"x" * (MAX_BODY + 1))
    yield Bad("a length that is too large", 413, "POST", "/api/plan", headers={"Content-Length": "9" * 15})
    chunked = (
        b"POST /api/plan HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
        % TOKEN.encode()
    )
    yield Bad("endless chunks", 413, raw=chunked + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 6)
    yield Bad("broken chunks", 400, raw=chunked + b"zz\r\nx\r\n")
    yield Bad("a body that never comes", 408, "POST", "/api/plan", headers={"Content-Length": "100"})
    yield Bad("a body that stops", 408, "POST", "/api/plan", b'{"a"', {"Content-Length": "100"})


def settings() -> Iterator[Bad]:
    for name, value in (
        ("width", -1),
        ("width", 10**30),
        ("width", 64.5),
        ("height", "64"),
        ("num_frames", 0),
        ("num_frames", 10**9),
        ("fps", 0),
        ("fps", -1e308),
        ("fps", float("nan")),
        ("fps", float("inf")),
        ("seed", -1),
        ("seed", 2**63),
        ("num_inference_steps", True),
        ("guidance_scale_high", "high"),
        ("flow_shift", 1e-300),
        ("prompt", "x" * 20_001),
        ("prompt", 5),
        ("prompt", "\ud800"),
        ("prompt", None),
        ("sampler", "rm -rf"),
        ("crop", ["center"]),
        ("background", "url(http://a)"),
        ("container", "exe"),
        ("crf", 1000),
        ("nag", "yes"),
        ("__class__", "x"),
        ("", "x"),
    ):
        yield posted(f"{name}={str(value)[:12]}", 422, "/api/plan", {"picture": KEPT, "settings": {name: value}})
    for priority in (10**6, "high", 1.5, None):
        body = {"picture": KEPT, "settings": SETTINGS, "priority": priority}
        yield posted(f"priority {priority}", 422, "/api/jobs", body)
    for query in ("limit=0", "limit=501", "limit=x", "before=x", "before=-1", "state=lost", "search=" + "a" * 1001):
        yield Bad(f"list {query[:12]}", 422, path=f"/api/jobs?{query}")
    for query in ("last=x", "last=-1", "last=" + "9" * 40):
        yield Bad(f"events {query[:12]}", 422, path=f"/api/events?{query}")
    yield Bad("events after a word", 422, path="/api/events", headers={"Last-Event-ID": "x"})
    yield Bad("a preview of no size", 422, path=f"/api/pictures/{'0' * 64}?side=0")
    yield Bad("a large preview", 422, path=f"/api/pictures/{'0' * 64}?side=100000")
    for part in ("", "/record", "/video", "/thumbnail", "/spritesheet", "/preview"):
        yield Bad(f"no job{part}", 404, path=f"/api/jobs/none{part}")
    for move in ("cancel", "retry", "again"):
        yield Bad(f"{move} no job", 404, "POST", f"/api/jobs/none/{move}")
    yield Bad("forget no job", 404, "DELETE", "/api/jobs/none")


def headers() -> Iterator[Bad]:
    yield Bad("no host", 400, raw=b"GET /healthz HTTP/1.1\r\n\r\n")
    yield Bad("two hosts", 400, raw=b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    yield Bad("no HTTP", 400, raw=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    yield Bad("a line of noise", 400, raw=b"\x00\xff\xfe\r\n\r\n")
    yield Bad("a space in a name", 400, raw=b"GET /healthz HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n")
    yield Bad(
        "two lengths", 400, raw=b"POST /run HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
    )
    yield Bad("a negative length", 400, "POST", "/run", headers={"Content-Length": "-5"})
    yield Bad("a length of words", 400, "POST", "/run", headers={"Content-Length": "many"})
    smuggled = b"POST /run HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    yield Bad("an unknown coding", 400, raw=smuggled)
    twice = (
        b"POST /run HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    yield Bad("two codings", 400, raw=twice)
    both = b"POST /run HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield Bad("a length and a coding", 400, raw=both)
    yield Bad("a line that is folded", 400, raw=b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n")
    yield Bad("bare line ends", 400, raw=b"GET /healthz HTTP/1.1\nHost: a\n\n")
    chunk = b"POST /run HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    yield Bad("a chunk of no size", 400, raw=chunk)
    yield Bad("headers without end", 400, raw=b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000)
    many = "".join(f"X-{n}: y\r\n" for n in range(4000)).encode()
    yield Bad("very many headers", 431, raw=b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n")
    yield Bad("a long path", 431, raw=b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    yield Bad("a longer path", 400, raw=b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    yield Bad("an unknown method", 400, raw=b"EVIL /api/plan HTTP/1.1\r\nHost: a\r\n\r\n")
    yield Bad("an upgrade", 404, path="/ws", headers={"Upgrade": "websocket", "Connection": "Upgrade, close"})
    yield Bad("an idempotency key of noise", 422, "POST", headers={"Idempotency-Key": "\xff" * 300})


def methods() -> Iterator[Bad]:
    for method, path in (
        ("PUT", "/api/jobs"),
        ("PATCH", "/api/jobs/a"),
        ("TRACE", "/healthz"),
        ("DELETE", "/api/info"),
        ("POST", "/metrics"),
        ("OPTIONS", "/api/plan"),
    ):
        yield Bad(f"{method} {path}", 405, method, path)
    for path in ("/.env", "/admin", "/api", "/api/", "/docs", "/redoc", "/%00", "/api/jobs/a/b/c", "//evil.example/"):
        yield Bad(f"path {path}", 404, path=path)
