"""Aliases of the old container and of other services, and how clashes and unknown names are refused."""

from __future__ import annotations

import pytest

from wan2_i2v.doors.http.fields import ALIASES, CANONICAL, IGNORED, size_of_area, translate
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"loras": ["a:0.5", "b"]}, {"loras": ("a:0.5", "b")}),
        ({"lora": "a"}, {"loras": ("a",)}),
        ({"loras": '{"name": "a", "scale": 0.5}'}, {"loras": ("a:0.5",)}),
        (
            {"lora_pairs": [{"high": "h", "low": "l", "high_weight": 1.5, "low_weight": 1}]},
            {"loras_high": ("h:1.5",), "loras_low": ("l:1",)},
        ),
        ({"lora_pairs": [{"high": "h"}], "loras_high": ["x"]}, {"loras_high": ("h", "x")}),
        ({"high_noise_loras": [{"path": "h", "scale": 2}], "low_noise_loras": []}, {"loras_high": ("h:2",)}),
    ],
)
def test_loras_in_every_spelling(given, expected):
    assert translate({"image": "a", **given}).request == expected


@pytest.mark.parametrize(
    "wrong",
    ["/etc/passwd", "../x", "~/x", "a\\b", [{"path": "a/b"}], [3], "{", [{"name": "a", "scale": "x"}], [{"x": 1}]],
)
def test_a_lora_is_a_name_and_no_path(wrong):
    with pytest.raises(InvalidRequest, match="loras"):
        translate({"image": "a", "loras": wrong})


def test_fields_of_the_request_have_their_own_names_too():
    # How a job is computed is the server's choice.
    servers = {"model", "output", "job_id", "overwrite", "device", "attention", "compile", "backend", "comfyui_url"}
    names = set(GenerateRequest.model_fields) - servers - {"image"}
    assert names <= set(CANONICAL) | {"prompt"}


@pytest.mark.parametrize("name", ["end_image", "last_image", "end_image_url", "end_image_path", "end_image_base64"])
def test_a_last_picture_in_every_spelling(name):
    fields = translate({"image": "a", name: "b.png"})
    assert (fields.image, fields.last_image, fields.request) == ("a", "b.png", {})
    assert translate({"image": "a", name: ""}).last_image is None
    with pytest.raises(InvalidRequest, match="end_image"):
        translate({"image": "a", name: "b.png", "end_image": "c.png", "last_image": "d.png"})


def test_resolutions():
    assert translate({"image": "a", "res": "480P"}).area == 832 * 480
    assert size_of_area(832 * 480, (96, 64)) == {"width": 768, "height": 512}
    for wrong in ({"res": "999p"}, {"resolution": "480p", "width": 64}):
        with pytest.raises(InvalidRequest, match="res"):
            translate({"image": "a", **wrong})


def test_what_is_not_for_the_model():
    fields = translate({"image": "a", "webhook": "http://h", "return_base64": 1, "batch_size": "1", "job_id": "j"})
    assert (fields.webhook, fields.return_video, fields.job_id, fields.request) == ("http://h", True, "j", {})
    for wrong in ({"batch_size": 2}, {"end_image": 3}, {"return_video": "maybe"}, {"webhook": 3}):
        with pytest.raises(InvalidRequest):
            translate({"image": "a", **wrong})
