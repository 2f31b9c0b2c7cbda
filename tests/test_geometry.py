"""Sizes, lengths and crop boxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v import geometry

SIDES = st.integers(16, 20_000)
SIZES = st.tuples(SIDES, SIDES)
TARGETS = st.tuples(st.integers(1, 256), st.integers(1, 256)).map(lambda size: (size[0] * 16, size[1] * 16))


@pytest.mark.parametrize(
    ("asked", "made"), [(1, 1), (2, 5), (5, 5), (6, 9), (72, 73), (73, 73), (81, 81), (96, 97), (120, 121)]
)
def test_the_model_makes_the_next_4n_plus_1(asked, made):
    assert geometry.model_frames(asked) == made


@given(st.integers(1, 5000))
def test_model_frames(asked):
    made = geometry.model_frames(asked)
    assert made % 4 == 1 and asked <= made < asked + 4


def test_latent_shape_of_a_known_job():
    """Wan2.2 at 1280×720×81: 21 latent frames of 90×160, 75,600 tokens."""
    shape = geometry.latent_shape(81, 720, 1280)
    assert shape.tensor == (1, 16, 21, 90, 160)
    assert shape.tokens == 75_600


@pytest.mark.parametrize(("value", "snapped"), [(1, 16), (16, 16), (721, 720), (729, 736), (850, 848), (23, 16)])
def test_snap(value, snapped):
    assert geometry.snap(value) == snapped


def test_the_offered_sizes_have_their_true_ratios():
    assert {(720, 480), (480, 720), (832, 480), (480, 832)} <= set(geometry.WAN_SIZES)
    assert all(width % 16 == height % 16 == 0 for width, height in geometry.WAN_SIZES)


@pytest.mark.parametrize(
    ("picture", "chosen"),
    [
        ((1920, 1080), (832, 480)),
        ((1080, 1920), (480, 832)),
        ((3000, 2000), (720, 480)),
        ((2000, 3000), (480, 720)),
        ((1024, 1024), (720, 720)),
        ((500, 480), (720, 720)),
        ((4000, 100), (832, 480)),
    ],
)
def test_the_size_follows_the_pictures_aspect(picture, chosen):
    assert geometry.choose_size(picture, None, None, geometry.WAN_SIZES) == chosen


@pytest.mark.parametrize(
    ("width", "height", "chosen"),
    [(720, None, (720, 480)), (None, 480, (720, 480)), (500, 333, (496, 336)), (None, 16, (32, 16))],
)
def test_given_sides_are_snapped_and_the_other_follows(width, height, chosen):
    assert geometry.choose_size((1500, 1000), width, height, geometry.WAN_SIZES) == chosen


@given(source=SIZES, target=TARGETS, crop=st.sampled_from(["center", "top", "bottom"]))
def test_crop_box_is_inside_touches_two_sides_and_has_the_targets_aspect(source, target, crop):
    left, top, right, bottom = geometry.crop_box(source, target, crop)
    width, height = source
    assert -1e-6 <= left < right <= width + 1e-6
    assert -1e-6 <= top < bottom <= height + 1e-6
    assert (right - left) / (bottom - top) == pytest.approx(target[0] / target[1])
    assert right - left == pytest.approx(width) or bottom - top == pytest.approx(height)
    assert left == pytest.approx(width - right, abs=1e-6)
    if crop == "top":
        assert top == 0
    if crop == "bottom":
        assert bottom == pytest.approx(height)
    if crop == "center":
        assert top == pytest.approx(height - bottom, abs=1e-6)
    kept = (right - left) * (bottom - top) / (width * height)
    assert geometry.crop_loss(source, target) == pytest.approx(1 - kept)


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [((100, 100), (200, 100), 2), ((400, 400), (100, 100), 0.25), ((64, 64), (64, 64), 1)],
)
def test_upscale_factor(source, target, factor):
    assert geometry.upscale_factor(source, target) == factor
