"""Every request of the corpus gets its status from a real server, leaves no trace on the disk, and leaves it alive."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from pathlib import Path

import bad_requests
import pytest
from bad_requests import KEPT, MAX_BODY, MAX_PIXELS, MAX_UPLOAD, TOKEN

from requests_http import png
from servers import serving

CORPUS = bad_requests.corpus()
SECRET = b"the secret outside of input"


@pytest.fixture(scope="module")
def server(checkpoint, tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    limits = {"BODY_BYTES": MAX_BODY, "UPLOAD_BYTES": MAX_UPLOAD, "PIXELS": MAX_PIXELS}
    environment = {f"WAN2_I2V_MAX_{name}": str(value) for name, value in limits.items()}
    (root / "secret.png").write_bytes(SECRET)
    (root / "input" / "folder").mkdir(parents=True)
    (root / "input" / "boat.png").write_bytes(png())
    (root / "input" / "link.png").symlink_to(root / "secret.png")
    with serving(root, str(checkpoint), WAN2_I2V_TOKEN=TOKEN, WAN2_I2V_BODY_SECONDS="0.5", **environment) as live:
        yield live
    assert "Traceback" not in live.told
    assert TOKEN not in live.told


@pytest.fixture(scope="module")
def kept(server):
    return server.upload(png())


def answer_to(port: str, message: bytes) -> tuple[int | None, bytes]:
    """Status and everything that came back; None when the connection was closed without a word."""
    with socket.create_connection(("127.0.0.1", int(port)), timeout=120) as connection:
        # Refused before all of it was sent: what was said may still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(message)
        received = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            received += part
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    return (int(status[1]) if status else None), received


def tree(root: Path) -> set[str]:
    """Every file below the server's folder but those that every start of it makes."""
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {name for name in names if not name.startswith(("output/jobs/queue.db", "locks"))}


def test_there_are_enough():
    assert len(CORPUS) >= 150
    assert len({case.name for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_it_is_refused_and_leaves_nothing(server, kept, case):
    before = tree(server.root)
    message = case.message()
    if not case.raw and KEPT.encode() in case.body:
        body = case.body.replace(KEPT.encode(), kept.encode())
        head = message[: message.index(b"\r\n\r\n") + 4].replace(
            f"Content-Length: {len(case.body)}".encode(), f"Content-Length: {len(body)}".encode()
        )
        message = head + body
    status, received = answer_to(server.port, message)
    assert status == case.status, received[:600]
    assert SECRET not in received
    assert b"Traceback" not in received
    assert b"root:" not in received
    content = received.partition(b"\r\n\r\n")[2]
    if content.startswith(b"{"):
        told = json.loads(content)
        assert told.get("error") or told.get("output"), told
    assert tree(server.root) == before
    assert server.client.get("/healthz").json() == {"status": "ok"}


def test_after_all_of_it_the_server_works(server, kept):
    assert server.client.get("/api/jobs").json() == {"jobs": [], "next": None}
    assert server.client.post("/api/plan", json={"picture": kept, "settings": {}}).status_code == 200
