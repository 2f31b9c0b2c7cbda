"""Aliases of the old container and of other services, and how clashes and unknown names are refused."""

from __future__ import annotations

import pytest

from wan2_i2v.doors.http.fields import ALIASES, IGNORED, translate
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.request import GenerateRequest

VALUES = {
    "positive_prompt": ("a", "prompt", "a"),
    "negative_prompt": ("b", "negative_prompt", "b"),
    "length": (33, "num_frames", 33),
    "duration": (2.5, "num_frames", 60),
    "width": (64, "width", 64),
    "height": (64, "height", 64),
    "size": ("832*480", "width", 832),
    "steps": (6, "num_inference_steps", 6),
    "cfg": (1.5, "guidance_scale_low", 1.5),
    "guidance_scale_2": (2, "guidance_scale_low", 2),
    "shift": (5, "flow_shift", 5),
    "sampler_name": ("euler", "sampler", "euler"),
    "scheduler": ("simple", "scheduler", "simple"),
    "seed": (7, "seed", 7),
    "fps": (16, "fps", 16),
    "crop": ("top", "crop", "top"),
}


@pytest.mark.parametrize(("field", "name"), [(field, name) for field in VALUES for name in (field, *ALIASES[field])])
def test_every_name_of_every_field(field, name):
    value, own, expected = VALUES[field]
    fields = translate({"image": "boat.png", name: value})
    assert fields.request[own] == expected
    GenerateRequest(image="x", **fields.request)


@pytest.mark.parametrize("name", ["input_image", *ALIASES["input_image"]])
def test_only_the_picture_is_required(name):
    fields = translate({name: "boat.png", **dict.fromkeys(IGNORED, "x"), "width": None})
    assert (fields.image, fields.request, fields.job_id) == ("boat.png", {}, None)


def test_two_names_of_one_field_must_agree():
    assert translate({"image": "a", "prompt": "x", "text": "x"}).request == {"prompt": "x"}
    for clash in (
        {"prompt": "x", "text": "y"},
        {"size": "64x64", "width": 32},
        {"seconds": 1, "frames": 25},
    ):
        with pytest.raises(InvalidRequest) as refusal:
            translate({"image": "a", **clash})
        assert all(name in str(refusal.value) for name in clash)


@pytest.mark.parametrize("seed", [None, 0, -1, "-1", ""])
def test_these_seeds_mean_random(seed):
    assert "seed" not in translate({"image": "a", "seed": seed}).request


def test_unknown_names_and_wrong_values_are_refused():
    with pytest.raises(InvalidRequest, match="Did you mean 'prompt'"):
        translate({"image": "a", "promt": "x"})
    for wrong in ({"size": "big"}, {"duration": "long"}, {"duration": float("inf")}, {"image": ""}, {"image": 3}):
        with pytest.raises(InvalidRequest):
            translate({"image": "a", **wrong})
    with pytest.raises(InvalidRequest, match="input_image"):
        translate({})
