"""Training from nothing to a checkpoint that makes a clip, in steps far too few to be good, cut off on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from training import __main__ as training
from training import lights, pictures, shifts, state, text, vae, wishes
from wan2_i2v import GenerateRequest, generate

FEW = {
    vae: {
        "IMAGE_STEPS": 2,
        "CLIP_STEPS": 2,
        "LONG_STEPS": 2,
        "FIRST_STEPS": 2,
        "BASIS_CROPS": 32,
        "IMAGE_BATCH": 2,
        "CLIP_BATCH": 1,
    },
    text: {"STEPS": 3, "CORPUS": 500, "BATCH": 4},
    shifts: {"PICTURES": 6},
    wishes: {"PROMPTS": 120, "SHAPES": ((8, 8, 3), (8, 12, 4)), "BATCH": 256, "STEPS": 60},
    lights: {"STEPS": 60},
}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every phase, a few steps of it, on noise in place of the Debian packages' pictures."""
    for module, values in FEW.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(state, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(wishes, "SAVE_EVERY_S", 0.0)
    rng = np.random.default_rng(0)
    noise = [pictures.pyramid(rng.integers(0, 256, (240, 320, 3)).astype(np.uint8)) for _ in range(3)]
    monkeypatch.setattr(training, "load_pool", lambda cache: pictures.Pool(noise, noise))
    yield
    # Training turns them off for its process, which is also that of the tests after this one.
    torch.set_flush_denormal(False)


def train(monkeypatch: pytest.MonkeyPatch, work: Path, out: Path) -> dict[str, dict[str, torch.Tensor]]:
    monkeypatch.setattr(sys, "argv", ["training", "--work", str(work), "--out", str(out)])
    training.main()
    return {path.parent.name: load_file(path) for path in out.glob("*/*.safetensors")}


class Cut(Exception):
    """Ends a training where power could fail."""


def test_a_training_that_was_cut_off_ends_as_one_that_was_not(few_steps, monkeypatch, tmp_path):
    whole = train(monkeypatch, tmp_path / "whole", tmp_path / "made")
    save, descend = state.Trainer.save, torch.optim.Adam.step
    for phase in ("vae-images", "text", "moves", "lights-low", "vae-clips", "vae-long", "vae-first"):

        def cut(trainer, phase=phase):
            save(trainer)
            if trainer.name == phase and trainer.step == 1:
                raise Cut

        def stop(optimizer, *arguments, phase=phase, **more):
            log = tmp_path / "cut" / f"{phase}.pt"
            if log.exists() and torch.load(log, weights_only=True)["step"] == 30:
                raise Cut
            return descend(optimizer, *arguments, **more)

        with monkeypatch.context() as patch:
            if phase in ("moves", "lights-low"):
                patch.setattr(torch.optim.Adam, "step", stop)
            else:
                patch.setattr(state.Trainer, "save", cut)
            with pytest.raises(Cut):
                train(monkeypatch, tmp_path / "cut", tmp_path / "resumed")
    resumed = train(monkeypatch, tmp_path / "cut", tmp_path / "resumed")
    assert resumed.keys() == whole.keys() == {"text_encoder", "vae", "transformer", "transformer_2"}
    for part, weights in whole.items():
        for name, value in weights.items():
            assert torch.equal(value, resumed[part][name]), (part, name)
    assert (tmp_path / "cut" / "curves.png").stat().st_size > 1000
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(picture)
    record = generate(
        GenerateRequest(
            image=str(picture),
            prompt="pan left",
            width=64,
            height=64,
            num_frames=5,
            model=str(tmp_path / "made"),
            output=str(tmp_path / "clips"),
            device="cpu",
        )
    )
    assert record.video is not None and Path(record.video).stat().st_size > 0
