"""A service with a small random checkpoint behind the application, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from requests_http import png
from wan2_i2v.doors.http.app import create_app
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.jobs.service import Service, ServiceSettings
from wan2_i2v.jobs.worker import Limits


@pytest.fixture(scope="session")
def picture() -> bytes:
    return png()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `input` and `output` of a test are."""
    monkeypatch.setenv("WAN2_I2V_INPUT", str(tmp_path / "input"))
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "input").mkdir()
    return tmp_path


@pytest.fixture
def service(checkpoint: Path, folders: Path) -> Iterator[Service]:
    """Accepts jobs; none is computed, for its worker is not started."""
    service = Service(ServiceSettings(str(checkpoint), "cpu", limits=Limits(), lock_folder=folders / "locks"))
    yield service
    service.store.close()


@pytest.fixture
def client_of(service: Service) -> Iterator[Callable[..., TestClient]]:
    """A client of an application with the given settings, in this process."""
    opened: list[TestClient] = []

    def make(**settings: object) -> TestClient:
        app = create_app(service, HttpSettings(**settings))
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False, client=("10.0.0.1", 5))
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of()
