"""Fields of /v1/videos from a form and from JSON, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wan2_i2v.doors.http.openai_fields import IGNORED, KNOWN, ONLY, nested, translate
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.request import GenerateRequest

# What vLLM-Omni 0.30 and SGLang 0.5.23 document for /v1/videos; facts: protocols.md §2.3 and §2.4.
VLLM_OMNI = (
    "prompt control_type image_reference video_reference audio_reference model seconds size user width height "
    "num_frames fps aspect_ratio short_edge num_outputs_per_prompt start_time_seconds quality num_inference_steps "
    "guidance_scale guidance_scale_2 boundary_ratio flow_shift true_cfg_scale seed generate_sound sound_duration "
    "negative_prompt enable_frame_interpolation frame_interpolation_exp frame_interpolation_scale "
    "frame_interpolation_model_path lora extra_params return_stage_metrics input_reference input_references "
    "control_reference source_video source_audio video_noise_mask audio_noise_mask"
)
SGLANG = (
    "enhance_prompt reference_url video_url video_path task_type n generator_device max_sequence_length "
    "enable_teacache enable_upscaling upscaling_model_path upscaling_scale output_quality output_compression "
    "x264_preset output_path perf_dump_path profile extra_body attention_backend_override cache_dit_params "
    "enable_cache_dit cfg_gate_step skip_softmax_params diffusers_kwargs"
)


def test_every_field_of_the_other_servers_is_known():
    assert set(f"{VLLM_OMNI} {SGLANG}".split()) <= KNOWN


def test_a_form_gives_what_json_gives():
    form = {"prompt": "x", "size": "64x48", "num_frames": "5", "fps": "16", "seed": "0", "guidance_scale": "3.5"}
    json = {"prompt": "x", "size": "64x48", "num_frames": 5, "fps": 16, "seed": 0, "guidance_scale": 3.5}
    one, other = (GenerateRequest(image="p", **translate(values).request) for values in (form, json))
    assert one == other
    assert (one.width, one.height, one.num_frames, one.fps, one.seed) == (64, 48, 5, 16, 0)
    assert (one.guidance_scale_high, one.guidance_scale_low) == (3.5, 3.5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"guidance_scale": 4, "guidance_scale_2": 3}, {"guidance_scale_high": 4, "guidance_scale_low": 3}),
        ({"guidance_scale_2": 3}, {"guidance_scale_low": 3}),
        ({"guidance_scale": 4, "guidance_scale_low": 2}, {"guidance_scale_high": 4, "guidance_scale_low": 2}),
    ],
)
def test_guidance_scale_2_is_the_low_noise_expert(given, expected):
    assert translate(given).request == expected


def test_seconds_become_frames_and_a_number_of_frames_decides():
    assert translate({"seconds": "5"}).request == {"num_frames": 120}
    assert translate({"seconds": "5", "fps": "16"}).request == {"fps": "16", "num_frames": 80}
    assert translate({"seconds": "4", "num_frames": "81"}).request == {"num_frames": "81"}
    with pytest.raises(InvalidRequest, match="seconds"):
        translate({"seconds": "long"})


@pytest.mark.parametrize(
    "given",
    [
        {"input_reference": "http://h/p.png"},
        {"input_reference": {"image_url": "http://h/p.png"}},
        {"input_reference": '{"image_url": "http://h/p.png"}'},
        {"image_reference": '[{"image_url": "http://h/p.png"}]'},
        {"input_references": ["http://h/p.png"]},
        {"reference_url": "http://h/p.png"},
        nested([("input_reference[image_url]", "http://h/p.png")]),
    ],
)
def test_every_way_to_name_the_picture(given):
    assert translate(given).image == "http://h/p.png"


def test_one_picture_only():
    for wrong in (
        {"reference_url": "a", "image_url": "b"},
        {"input_references": ["a", "b"]},
        {"input_reference": {"file_id": "f"}},
        {"input_reference": "{broken"},
    ):
        with pytest.raises(InvalidRequest):
            translate(wrong)


@pytest.mark.parametrize("name", sorted(ONLY))
def test_what_this_server_cannot_do_is_refused_and_what_asks_for_nothing_is_not(name):
    assert translate(dict.fromkeys((name,), ONLY[name][0] if ONLY[name] else "")).request == {}
    with pytest.raises(InvalidRequest, match=name):
        translate({name: "something"})


def test_what_is_ignored_and_what_is_unknown():
    assert translate(dict.fromkeys(IGNORED, "x")).request == {}
    with pytest.raises(InvalidRequest, match="Did you mean 'num_frames'"):
        translate({"num_frame": 5})


def test_extra_params_are_fields_too():
    assert translate({"extra_params": '{"sampler": "euler"}', "crf": 20}).request == {"sampler": "euler", "crf": 20}
    for wrong in ({"extra_params": "[1]"}, {"extra_params": "{"}, {"extra_body": '{"crf": 1}', "crf": 2}):
        with pytest.raises(InvalidRequest):
            translate(wrong)


@pytest.mark.parametrize("seed", [None, "", -1, "-1", [-1]])
def test_these_seeds_mean_random(seed):
    assert translate({"seed": seed}).request == {}
    assert translate({"seed": [7]}).request == {"seed": 7}
    with pytest.raises(InvalidRequest):
        translate({"seed": [1, 2]})


def test_nested_names():
    pairs = [("a[b]", 1), ("a[c]", 2), ("l[]", 1), ("l[]", 2), ("p", 1), ("p", 2), ("q", 3)]
    assert nested(pairs) == {"a": {"b": 1, "c": 2}, "l": [1, 2], "p": [1, 2], "q": 3}
    with pytest.raises(InvalidRequest):
        nested([("a", 1), ("a[b]", 2)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), JSON, max_size=4))
def test_whatever_comes_is_translated_or_refused(values):
    try:
        GenerateRequest(image="p", **translate(values).request)
    except InvalidRequest as refusal:
        assert str(refusal)


def test_loras():
    given = {"lora": '{"name": "a", "scale": 0.5}', "loras": ["b"], "loras_low": "c:2"}
    assert translate(given).request == {"loras": ("a:0.5", "b"), "loras_low": ("c:2",)}
    with pytest.raises(InvalidRequest, match="lora"):
        translate({"lora": {"path": "/etc/passwd"}})
    # How a job is computed is the server's choice.
    servers = {"model", "output", "job_id", "overwrite", "device", "attention", "compile", "backend", "comfyui_url"}
    names = set(GenerateRequest.model_fields) - servers - {"image"}
    assert names <= KNOWN
