"""A real server on a loopback port: uvicorn in a thread of the tests, and what tests want to know of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pytest
import uvicorn

from wan2_i2v.doors.http.app import create_app
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Service

TOKEN = "a-token"
PATIENCE = 600.0


@dataclass(frozen=True)
class Served:
    """`url` without a slash at its end; `service` is the server's own."""

    url: str
    service: Service

    def until_over(self, job_id: str) -> StoredJob:
        return self.until(job_id, "done", "failed", "cancelled", "timed_out", "set_aside")

    def until(self, job_id: str, *states: str) -> StoredJob:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            job = self.service.store.get(job_id)
            if job.state in states:
                return job
            time.sleep(0.05)
        pytest.fail(f"{job_id} stayed {job.state}")


class serving:
    """uvicorn in a thread with this service's application; the URL it listens on."""

    def __init__(self, service: Service, settings: HttpSettings) -> None:
        config = uvicorn.Config(create_app(service, settings), host="127.0.0.1", port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="server", daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + PATIENCE
        while not self._server.started:
            assert time.monotonic() < deadline and self._thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *exception: object) -> None:
        self._server.should_exit = True
        self._thread.join()


def bearer() -> dict[str, str]:
    """The header that a client of `served` needs."""
    return {"Authorization": f"Bearer {TOKEN}"}
