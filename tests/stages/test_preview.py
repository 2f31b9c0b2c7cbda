"""Previews: a map fitted to the picture gives its colours back, and watching changes nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from wan2_i2v import api
from wan2_i2v.events import Event, Preview
from wan2_i2v.plan import StepPlan
from wan2_i2v.request import GenerateRequest
from wan2_i2v.stages import preview

STEP = StepPlan(sigma=0.5, timestep=500.0, expert="high", guidance_scale=1.0)


def mixed(pixels: np.ndarray) -> np.ndarray:
    """A latent (16, height, width) that holds colours (height, width, 3) linearly, as a VAE's nearly does."""
    mixing = np.random.default_rng(0).normal(size=(3, 16))
    return np.moveaxis(pixels / 127.5 - 1, -1, 0).reshape(3, -1).T.dot(mixing).T.reshape(16, *pixels.shape[:2])


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)).resize(
        (96, 64), Image.Resampling.NEAREST
    )


def test_the_fitted_map_gives_the_colours_back(picture: Image.Image) -> None:
    small = np.asarray(picture.resize((12, 8), Image.Resampling.BOX), dtype=np.float64)
    colours = preview.fit(mixed(small), picture)
    with Image.open(io.BytesIO(preview.render(mixed(small), colours, picture.size))) as shown:
        assert shown.size == (256, 171)
        again = np.asarray(shown.resize((12, 8), Image.Resampling.BOX), dtype=np.float64)
    assert np.abs(again - small).mean() < 20


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_picture_stays_flat(value: int) -> None:
    flat = Image.new("RGB", (64, 64), (value,) * 3)
    latent = np.full((16, 8, 8), 0.3)
    with Image.open(io.BytesIO(preview.render(latent, preview.fit(latent, flat), flat.size))) as shown:
        assert shown.getextrema() == ((pytest.approx(value, abs=1),) * 2,) * 3


def test_watching_gives_the_velocity_unchanged(picture: Image.Image) -> None:
    latents, velocity = torch.randn(1, 16, 3, 8, 12), torch.randn(1, 16, 3, 8, 12)
    look = preview.Look(lambda latents, step: velocity, torch.randn(1, 20, 3, 8, 12), picture)
    with pytest.raises(RuntimeError, match="no step"):
        look.png()
    assert look(latents, STEP) is velocity
    assert look.png().startswith(b"\x89PNG")


def test_every_step_of_a_job_shows_a_preview_that_resembles_the_picture(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(tmp_path))
    shades = np.linspace(40, 220, 64, dtype=np.uint8)
    Image.merge("RGB", [Image.fromarray(np.tile(shades, (64, 1)))] * 3).save(f"{tmp_path}/ramp.png")
    events: list[Event] = []
    request = GenerateRequest(image=f"{tmp_path}/ramp.png", width=64, height=64, num_frames=5, seed=1, device="cpu")
    api.generate_many([request], events.append)
    previews = [event for event in events if isinstance(event, Preview)]
    assert [event.step for event in previews] == [1, 2, 3, 4]
    with Image.open(io.BytesIO(previews[-1].png)) as shown:
        columns = np.asarray(shown.convert("L"), dtype=np.float64).mean(axis=0)
    assert np.corrcoef(columns, np.linspace(0, 1, len(columns)))[0, 1] > 0.95
