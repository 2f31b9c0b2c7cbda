"""A real server as its users start it, in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

PATIENCE = 300.0
OVER = ("done", "failed", "cancelled", "timed_out", "set_aside")


class LiveServer:
    """`wan2-i2v serve` below `root`: `root/output`, `root/input`. `told` is all that it has said."""

    def __init__(self, root: Path, model: str, *flags: str, **environment: str) -> None:
        self.root, self.told = root, ""
        (root / "input").mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {
            "WAN2_I2V_INPUT": str(root / "input"),
            "WAN2_I2V_OUTPUT": str(root / "output"),
            "WAN2_I2V_LOCKS": str(root / "locks"),
            **environment,
        }
        self.command = [
            sys.executable,
            "-m",
            "wan2_i2v.doors.cli",
            "serve",
            "--model",
            model,
            "--device",
            "cpu",
            *flags,
        ]
        self.url = ""

    def start(self, port: str = "0") -> LiveServer:
        self.process = subprocess.Popen(
            [*self.command, "--port", port], env=self.environment, stderr=subprocess.PIPE, text=True, cwd=self.root
        )
        ready = threading.Event()

        def listen() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.told += line
                found = re.search(r"at (http://\S+)", line)
                if found:
                    self.url = found[1]
                    ready.set()
            ready.set()

        self.listener = threading.Thread(target=listen, daemon=True)
        self.listener.start()
        assert ready.wait(PATIENCE)
        assert self.url, self.told
        token = self.environment.get("WAN2_I2V_TOKEN", "").partition(",")[0]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)
        until(lambda: self.client.get("/healthz").status_code == 200, httpx2.HTTPError)
        return self

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the server; its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.listener.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def upload(self, picture: bytes) -> str:
        return str(self.client.post("/api/pictures", content=picture).json()["picture"])

    def submit(self, picture: str, settings: dict[str, Any], job_id: str, **more: Any) -> httpx2.Response:
        return self.client.post("/api/jobs", json={"picture": picture, "settings": settings, "job_id": job_id, **more})

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/api/jobs/{job_id}").json())

    def all_jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = "limit=500"
        while True:
            page = self.client.get(f"/api/jobs?{query}").json()
            found += page["jobs"]
            if page["next"] is None:
                return found
            query = f"limit=500&before={page['next']}"

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job when it is over."""
        until(lambda: self.job(job_id)["state"] in OVER)
        return self.job(job_id)


def until(accept: Any, *forgiven: type[Exception], patience: float = PATIENCE) -> None:
    """Wait for something to become true; errors of the given kinds are no. `patience` in seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(*forgiven):
            if accept():
                return
        time.sleep(0.05)
    raise AssertionError(f"{accept} stayed false")


@contextlib.contextmanager
def serving(root: Path, model: str, *flags: str, **environment: str) -> Iterator[LiveServer]:
    server = LiveServer(root, model, *flags, **environment).start()
    try:
        yield server
    finally:
        server.stop()
