"""GenerateRequest: what is accepted, and refusals that name the field, the value and what is allowed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v.errors import InvalidRequest, shorten
from wan2_i2v.presets import DEFAULT_PROMPT
from wan2_i2v.request import MAX_SEED, GenerateRequest, check_known, describe_path, is_guided


def ask(**fields) -> GenerateRequest:
    return GenerateRequest(**({"image": "a.png"} | fields))


def refused(**fields) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    return caught.value


def test_only_the_image_is_required():
    request = ask()
    assert (request.prompt, request.num_frames, request.fps, request.crop) == (DEFAULT_PROMPT, 72, 24, "center")
    assert request.seed is None and request.width is None
    with pytest.raises(InvalidRequest, match=r"image: got nothing; allowed: a value; this field is required\."):
        GenerateRequest()


BAD = {
    "image": ["", "a\0b", 3],
    "width": [0, -16, 15, 4097, 10**12, "wide", 64.5, math.nan],
    "height": [0, -1, 4097],
    "num_frames": [0, -5, 1026, 2.5, "many", None],
    "fps": [0, -1, 241, math.nan, math.inf, "fast"],
    "seed": [-1, MAX_SEED + 1, 1.5],
    "recipe": ["fast", ""],
    "sampler": ["ddim", "LCM"],
    "scheduler": ["karras"],
    "flow_shift": [0, -1, 101, math.nan, 1e-300],
    "num_inference_steps": [0, -4, 201],
    "boundary_ratio": [-0.1, 1.1, math.nan],
    "guidance_scale_high": [-1, 51, math.nan, math.inf],
    "guidance_scale_low": [-0.5, math.nan],
    "crop": ["left", ""],
    "background": ["no colour", "#12"],
    "container": ["avi", "mp3"],
    "crf": [-1, 64],
    "device": ["gpu", "cuda:", "cuda:x", "mps"],
    "job_id": ["", "../up", "a b", ".hidden", "x" * 129, "a/b"],
    "output": ["a\0"],
    "prompt": ["x" * 20_001, None],
}
CASES = [(field, value) for field, values in BAD.items() for value in values]


@pytest.mark.parametrize(("field", "value"), CASES, ids=[f"{f}={str(v)[:12]!r}" for f, v in CASES])
def test_refusals_name_field_value_and_what_is_allowed(field, value):
    error = refused(**{field: value})
    assert error.field == field
    assert shorten(value)[:40] in str(error)
    assert len(error.allowed) > 3
    assert "Input should" not in str(error) and "String should" not in str(error)
    assert len(str(error)) < 400
    assert json.dumps(error.to_dict())


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("width", 0, "a whole number from 16 to 4096"),
        ("fps", math.nan, "a number above 0 to 240"),
        ("num_inference_steps", 0, "a whole number from 1 to 200"),
        ("sampler", "ddim", "one of lcm, euler, unipc"),
        ("crop", "left", "one of center, top, bottom, auto"),
        ("background", "nope", "a colour such as white or #ffffff"),
    ],
)
def test_what_is_allowed_is_said_in_full(field, value, allowed):
    assert refused(**{field: value}).allowed == allowed


def test_unknown_fields_suggest_the_nearest():
    assert "Did you mean 'num_frames'?" in str(refused(num_frame=5))
    with pytest.raises(InvalidRequest, match="Did you mean 'negative_prompt'"):
        check_known({"prompt": "x", "negativ_prompt": "y"})
    check_known({"prompt": "x", "seed": 1})
    assert "Known:" in str(refused(zzz=1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 0), ("guidance_scale_high", 0.0), ("boundary_ratio", 0.0), ("boundary_ratio", 1.0), ("crf", 0),
        ("num_frames", 1), ("fps", 23.976), ("negative_prompt", ""), ("prompt", ""), ("background", "hsl(0, 100%, 50%)"),
        ("width", "720"), ("device", "cuda:3"), ("seed", MAX_SEED), ("background", "#ff000080"),
    ],
)  # fmt: skip
def test_edge_values_are_values(field, value):
    assert getattr(ask(**{field: value}), field) == (int(value) if field == "width" else value)


def test_requests_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        ask().seed = 3  # type: ignore[misc]


def test_round_trip_through_json():
    request = ask(seed=0, width=720, flow_shift=8.0, job_id="a-1")
    assert GenerateRequest.model_validate_json(request.model_dump_json()) == request
    with pytest.raises(InvalidRequest, match="sampler"):
        GenerateRequest.model_validate_json('{"image": "a.png", "sampler": "x"}')


def test_replaced_is_validated():
    assert ask(seed=4).replaced(width=64).seed == 4
    with pytest.raises(InvalidRequest, match="width"):
        ask().replaced(width=0)


def test_batch_counts_seeds_up():
    parts = ask(seed=0, job_id="clip").batch(3)
    assert [(part.seed, part.job_id) for part in parts] == [(0, "clip-1"), (1, "clip-2"), (2, "clip-3")]
    assert {part.job_id for part in ask(seed=5).batch(2)} == {None}
    request = ask()
    assert request.batch(1) == (request,)
    with pytest.raises(InvalidRequest, match="batch_size: got 0"):
        request.batch(0)
    with pytest.raises(InvalidRequest, match="seed: got nothing"):
        request.batch(2)
    with pytest.raises(InvalidRequest, match="seed"):
        ask(seed=MAX_SEED).batch(2)


def test_paths_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert describe_path("~/a.png") == tmp_path / "a.png"
    assert describe_path("~nobody-here.png") == Path("~nobody-here.png")


@pytest.mark.parametrize(("scale", "expected"), [(1.0, False), (1, False), (1.1, True), (0.0, True), (3.5, True)])
def test_guidance_is_on_unless_exactly_1(scale, expected):
    assert is_guided(scale) is expected


ANY = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers(), max_size=2)
)


@given(
    fields=st.dictionaries(st.sampled_from(list(GenerateRequest.model_fields)) | st.text(max_size=8), ANY, max_size=4)
)
def test_anything_is_a_request_or_a_refusal_that_names_a_given_field(fields):
    try:
        request = GenerateRequest(**fields)
    except InvalidRequest as error:
        assert error.field.split(".")[0] in {*fields, "image"}
        assert "allowed: " in str(error)
    else:
        assert request.image


@pytest.mark.parametrize(
    ("name", "meant"), [("steps", "num_inference_steps"), ("positive_prompt", "prompt"), ("length", "num_frames")]
)
def test_names_of_flags_and_of_the_old_container_lead_to_the_field(name, meant):
    for refuse in (lambda: GenerateRequest(image="a.png", **{name: 1}), lambda: check_known({name: 1})):
        with pytest.raises(InvalidRequest, match=f"Did you mean '{meant}'"):
            refuse()
