"""Motions do what their names say, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from training.phrases import HELD_OUT, TRAINING

from training import motions, wording


def picture(height: int = 96, width: int = 128) -> np.ndarray:
    """Blurred noise: texture everywhere, nothing repeated."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


@pytest.mark.parametrize("motion", sorted(TRAINING))
def test_frame_0_is_the_picture(motion):
    assert np.array_equal(motions.clip(motions.resolve(motion), picture(), [0])[0], picture())


@pytest.mark.parametrize("motion", sorted(set(TRAINING) - {"static", "pan_any"}))
def test_everything_but_static_changes_the_picture(motion):
    last = motions.clip(motion, picture(), range(8, 25)).astype(int)
    assert abs(last - picture()).mean(axis=(1, 2, 3)).max() > 0.3


def test_static_stays():
    assert np.array_equal(motions.clip("static", picture(), [8])[0], picture())


@pytest.mark.parametrize(
    ("motion", "move"), [("pan_left", (1, 0)), ("pan_right", (-1, 0)), ("pan_up", (0, 1)), ("pan_down", (0, -1))]
)
def test_content_moves_against_the_camera(motion, move):
    t = 20
    moved = motions.frame(motion, motions.scene(picture()), t).astype(int)
    shift = round(motions.PAN * t)
    expected = np.roll(picture().astype(int), (move[1] * shift, move[0] * shift), axis=(0, 1))
    assert abs(moved - expected)[16:-16, 16:-16].mean() < 1


def test_zooming_in_keeps_the_centre_and_enlarges():
    x, y = motions.displacement("zoom_in", motions.scene(picture()), 30)
    assert abs(x - np.arange(128))[:, 63:65].max() < 0.1
    assert x[0, -1] < 127
    assert y[-1, 0] < 95


def test_an_open_pan_is_a_pan():
    assert motions.resolve("pan_any") in {"pan_left", "pan_right", "pan_up", "pan_down"}
    assert motions.resolve("zoom_in") == "zoom_in"


def test_held_out_phrases_were_never_trained_on():
    for motion, phrases in HELD_OUT.items():
        assert not {phrase.lower() for phrase in phrases} & {phrase.lower() for phrase in TRAINING[motion]}
    rng = np.random.default_rng(0)
    said = {wording.random_request(rng)[0].lower() for _ in range(5000)}
    assert not [
        prompt for prompt in said for phrases in HELD_OUT.values() for phrase in phrases if phrase.lower() in prompt
    ]
