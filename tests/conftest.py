"""Shared fixtures: the golden data, the tiny experts made from it, and plans for tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from wan2_i2v.request import GenerateRequest

# A busy machine is no fault of the code: no example has a time limit.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see nor change what was measured on this machine, nor the models, rows and
    services that its user has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAN2_I2V_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WAN2_I2V_INSIGHTS", str(tmp_path_factory.mktemp("insights") / "insights.db"))
        patch.setenv("WAN2_I2V_MODELS", str(tmp_path_factory.mktemp("models")))
        patch.setenv("WAN2_I2V_MODELS_FILE", str(tmp_path_factory.mktemp("config") / "models.toml"))
        patch.setenv("WAN2_I2V_LOCKS", str(tmp_path_factory.mktemp("locks")))
        for name in ("WAN2_I2V_URL", "WAN2_I2V_TOKEN"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of results computed with the real ComfyUI."""
    if not GOLDEN.is_dir():
        pytest.fail(f"golden data missing: expected {GOLDEN}")
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_wan(golden: Path) -> ModuleType:
    """The golden data's own module that draws the tiny experts and inputs."""
    spec = importlib.util.spec_from_file_location("tiny_wan", golden / "tiny_wan.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_wan"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_experts(tiny_wan: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two golden experts in diffusers layout: transformer/ (high) and transformer_2/ (low)."""
    import torch
    from diffusers import WanTransformer3DModel
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    folder = tmp_path_factory.mktemp("tiny-experts")
    for which, part in (("high", "transformer"), ("low", "transformer_2")):
        model = WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=128, in_channels=36, out_channels=16, ffn_dim=512, num_layers=2
        )
        weights = {key: torch.from_numpy(value) for key, value in tiny_wan.expert(which).items()}
        model.load_state_dict(convert_wan_transformer_to_diffusers(weights), strict=True)
        model.save_pretrained(folder / part)
    (folder / "model_index.json").write_text(json.dumps({"boundary_ratio": 0.9}))
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete two-expert checkpoint, tiny, with random weights."""
    import checkpoints

    return checkpoints.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def boat_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, with the picture boat.png in input/."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAN2_I2V_OUTPUT", raising=False)
    monkeypatch.delenv("WAN2_I2V_INPUT", raising=False)
    Path("input").mkdir()
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save("input/boat.png")
    return tmp_path


@pytest.fixture
def ask(checkpoint: Path) -> Callable[..., GenerateRequest]:
    """Makes requests for boat.png on the tiny checkpoint, with fields changed as asked."""

    def make(**fields: Any) -> GenerateRequest:
        known = {"image": "boat.png", "model": str(checkpoint), "num_frames": 5, "width": 48, "height": 32, "seed": 3}
        return GenerateRequest(**(known | {"device": "cpu"} | fields))

    return make
