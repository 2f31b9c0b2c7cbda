"""Checkpoints by name and folder; what is missing, damaged or of another model is named before anything loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models import catalog


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "copy")


def test_mini_is_there_whole_and_small_enough():
    row = catalog.find("mini")
    assert (row.name, row.boundary_ratio, row.experts) == ("mini", 0.9, ("high", "low"))
    size = sum(file.stat().st_size for file in row.path.rglob("*") if file.is_file())
    assert size <= 40 * 2**20


def test_a_copy_of_mini_is_used_as_mini_is(tmp_path, copy):
    mini, other = catalog.find("mini"), catalog.find(str(shutil.copytree(catalog.MINI, tmp_path / "mine")))
    alike = {"always_float32": True, "sizes": mini.sizes, "trained_fps": 24, "trained_frames": 121}
    assert {name: getattr(other, name) for name in alike} == alike
    assert not catalog.find(str(copy)).always_float32


def test_a_row_has_the_numbers_of_its_files(copy):
    row = catalog.find(str(copy))
    assert (row.dim, row.ffn_dim, row.num_layers, row.text_dim, row.vae_base_dim, row.vae_patch) == (
        32,
        64,
        2,
        32,
        16,
        2,
    )
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    assert row.expert_parameters * 4 == pytest.approx(weights.stat().st_size, rel=0.05)


def test_the_fingerprint_changes_with_one_byte(copy):
    before = catalog.find(str(copy)).fingerprint
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert catalog.find(str(copy)).fingerprint != before


@pytest.mark.parametrize("part", ["transformer", "transformer_2", "vae", "text_encoder"])
def test_missing_and_damaged_weights_are_named(copy, part):
    weights = next((copy / part).glob("*.safetensors"))
    content = weights.read_bytes()
    for damaged in (
        b"",
        content[:5],
        content[:-1],
        content[: len(content) // 2],
        content + b"\0",
        b"\0" * 64,
        b"<html>",
    ):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=part):
            catalog.find(str(copy))
    weights.unlink()
    with pytest.raises(CheckpointError, match=f"weights missing in .*{part}"):
        catalog.find(str(copy))


@pytest.mark.parametrize("name", ["model_index.json", "transformer/config.json", "tokenizer/tokenizer_config.json"])
def test_missing_and_damaged_configurations_are_named(copy, name):
    (copy / name).write_text("{")
    with pytest.raises(CheckpointError, match=f"{Path(name).name} is damaged"):
        catalog.find(str(copy))
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"{Path(name).name} is missing"):
        catalog.find(str(copy))


@pytest.mark.parametrize(("key", "value", "told"), [("in_channels", 16, "16 input"), ("image_dim", 1280, "CLIP")])
def test_other_wan_models_are_refused(copy, key, value, told):
    path = copy / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=told):
        catalog.find(str(copy))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(CheckpointError, match=r"model 'minni' is neither .* Did you mean 'mini'\?"):
        catalog.find("minni")


def test_a_catalog_name_without_its_folder_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "BUILTIN", {"mini": tmp_path / "gone"})
    with pytest.raises(CheckpointError, match=r"gone is missing\. Install the package again"):
        catalog.find("mini")
