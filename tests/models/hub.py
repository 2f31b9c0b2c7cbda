"""A small server that speaks what huggingface_hub needs: HEAD and GET of files with ETag, Range and redirect, and trees."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories as {repo: {path: content}}. `requests` are (method, path, Range or "", Authorization or "").

    With `stall_after` a body stops coming after so many bytes; `cut_after` closes the connection there, once.
    """

    daemon_threads = True

    def __init__(self, repos: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos = repos
        self.requests: list[tuple[str, str, str, str]] = []
        self.stall_after = self.cut_after = 0
        self.stalled, self.going = threading.Event(), threading.Event()
        self.wrong = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.going.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        headers = self.headers
        noted = (self.command, path, headers.get("Range", ""), headers.get("Authorization", ""))
        self.server.requests.append(noted)
        if path.startswith("/api/models/"):
            self._tree(path.removeprefix("/api/models/").partition("/tree/")[0])
            return
        repo, _, rest = path.removeprefix("/").partition("/resolve/")
        content = self.server.repos.get(repo, {}).get(rest.partition("/")[2])
        if content is None:
            known = "EntryNotFound" if repo in self.server.repos else "RepoNotFound"
            self._send(404, {"X-Error-Code": known, "Content-Length": "0"})
            return
        digest = hashlib.sha256(content).hexdigest()
        known = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not body:
            self._send(200, known | {"Content-Length": str(len(content))})
            return
        asked = headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        part = content[start:]
        known["Content-Length"] = str(len(part))
        if start:
            known["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, known)
        self._body(self.server.wrong or part)

    def _body(self, part: bytes) -> None:
        server = self.server
        if server.cut_after:
            self.wfile.write(part[: server.cut_after])
            server.cut_after = 0
            self.close_connection = True
            return
        if server.stall_after:
            self.wfile.write(part[: server.stall_after])
            self.wfile.flush()
            server.stalled.set()
            server.going.wait(60)
            self.close_connection = True
            return
        self.wfile.write(part)

    def _tree(self, repo: str) -> None:
        items: list[dict[str, Any]] = []
        for path, content in self.server.repos.get(repo, {}).items():
            digest = hashlib.sha256(content).hexdigest()
            item: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": digest[:40]}
            if path.endswith(".safetensors"):
                item["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            items.append(item)
        body = json.dumps(items).encode()
        self._send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
