"""A real server for the whole session, with a worker that computes with `mini`."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import pytest
from PIL import Image

from serving import TOKEN, Served, serving
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.jobs.service import Service, ServiceSettings
from wan2_i2v.jobs.worker import Limits


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A PNG of 96 × 64 pixels."""
    data = io.BytesIO()
    Image.radial_gradient("L").resize((96, 64)).convert("RGB").save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="session")
def photo_uri(photo: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(photo).decode()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WAN2_I2V_OUTPUT", str(folder / "output"))
        limits = Limits(batch=1, beat=0.1, silence=120, idle_poll=0.1)
        service = Service(ServiceSettings("mini", "cpu", limits=limits, lock_folder=folder / "locks"))
    settings = HttpSettings(token=TOKEN, trusted_hosts="127.0.0.1", _env_file=None)
    service.start()
    with serving(service, settings) as url:
        yield Served(url, service)
    service.stop()
