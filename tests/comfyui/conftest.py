"""The servers that jobs are sent to: doubles, and where COMFYUI_DIR names a checkout, a real one for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import comfy_real
import pytest
from comfy_double import ComfyDouble


@pytest.fixture(scope="session")
def real_comfyui(
    tmp_path_factory: pytest.TempPathFactory, tiny_wan: ModuleType, golden: Path
) -> Iterator[comfy_real.ComfyReal]:
    if not comfy_real.CHECKOUT:
        pytest.skip("COMFYUI_DIR names no checkout of ComfyUI")
    server = comfy_real.ComfyReal(tmp_path_factory.mktemp("comfyui"), tiny_wan, golden).start()
    yield server
    server.stop()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComfyDouble | comfy_real.ComfyReal]:
    """An old server, as long as a test does not ask for another: new, or real."""
    kind = getattr(request, "param", "old")
    if kind == "real":
        real = request.getfixturevalue("real_comfyui")
        real.reset()
        yield real
        return
    double = ComfyDouble(tmp_path / "comfyui", new=kind == "new").start()
    yield double
    double.stop()
