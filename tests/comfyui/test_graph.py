"""Plans as ComfyUI's graphs and back: what stands in the graph, the round trip, and clear words for the rest."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
from comfy_plans import picture, plan, request
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from wan2_i2v import schedule
from wan2_i2v.backends.base import Wanted
from wan2_i2v.backends.comfyui import drafted
from wan2_i2v.comfyui import finding
from wan2_i2v.comfyui.graph import asked_steps, build, escaped, output_node, samplers, unescaped
from wan2_i2v.comfyui.reading import read
from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models import elsewhere
from wan2_i2v.pictures import read_facts
from wan2_i2v.request import GenerateRequest


@pytest.fixture(scope="module")
def boat(tmp_path_factory):
    return picture(tmp_path_factory.mktemp("pictures"))


def inputs(graph, class_type):
    """The inputs of every node of a class, in order."""
    return [node["inputs"] for node in graph.values() if node["class_type"] == class_type]


def classes(graph):
    return [node["class_type"] for node in graph.values()]


def again(graph, boat):
    """The plan of what a graph is read as."""
    found = read(graph)
    fields = found.fields | {"image": str(boat), "model": elsewhere.model_of(found.files)}
    if "last_image" in fields:
        fields["last_image"] = str(boat)
    asked = GenerateRequest(**fields, backend="comfyui", comfyui_url="http://127.0.0.1:1")
    return drafted(Wanted(asked, boat, read_facts(boat), seed=0), has_nag=True)


def test_two_experts_are_two_samplers_on_one_list_of_sigmas(boat):
    graph = build(plan(boat, loras=("lightx2v",), nag=False), "boat.png", "video/boat")
    high, low = inputs(graph, "KSamplerAdvanced")
    assert (high["add_noise"], high["start_at_step"], high["end_at_step"]) == ("enable", 0, 2)
    assert (low["add_noise"], low["start_at_step"], low["end_at_step"]) == ("disable", 2, 4)
    assert (high["return_with_leftover_noise"], low["return_with_leftover_noise"]) == ("enable", "disable")
    assert high["noise_seed"] == low["noise_seed"] == 5
    assert {one["sampler_name"] for one in (high, low)} == {"euler"} and high["cfg"] == 1
    assert [one["shift"] for one in inputs(graph, "ModelSamplingSD3")] == [5, 5]
    names = [one["unet_name"] for one in inputs(graph, "UNETLoader")]
    assert ["high" in name for name in names] == [True, False]
    assert ["high" in one["lora_name"] for one in inputs(graph, "LoraLoaderModelOnly")] == [True, False]
    (start,) = inputs(graph, "WanImageToVideo")
    assert (start["width"], start["height"], start["length"]) == (96, 64, 9)
    assert inputs(graph, "ImageFromBatch")[0]["length"] == 8, "exactly the frames that were asked for"
    assert list(samplers(graph).values()) == [0, 2]
    assert graph[output_node(graph)]["inputs"]["filename_prefix"] == "video/boat"


def test_every_link_leads_to_an_earlier_node(boat):
    graph = build(plan(boat, loras=("lightx2v",), negative_prompt="blur"), "boat.png", "video/boat")
    for node_id, node in graph.items():
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert int(value[0]) < int(node_id)


def test_an_all_in_one_file_is_one_sampler(boat):
    graph = build(plan(boat, model="rapid-aio", num_frames=9), "boat.png", "video/boat")
    (sampler,) = inputs(graph, "KSampler")
    assert (sampler["seed"], sampler["steps"], sampler["sampler_name"], sampler["denoise"]) == (5, 4, "lcm", 1)
    assert inputs(graph, "CheckpointLoaderSimple") == [{"ckpt_name": "wan2.2-i2v-rapid-aio-v10.safetensors"}]
    assert not {"UNETLoader", "CLIPLoader", "VAELoader", "ImageFromBatch"} & set(classes(graph))


def test_gguf_files_have_a_loader_of_their_own(boat):
    graph = build(plan(boat, model="a14b-gguf:Q8_0"), "boat.png", "video/boat")
    assert ["Q8_0" in one["unet_name"] for one in inputs(graph, "UnetLoaderGGUF")] == [True, True]


def test_nag_stands_on_both_experts_where_the_server_has_it(boat):
    with_node = plan(boat, negative_prompt="blur", recipe="lightx2v")
    assert len(inputs(build(with_node, "a", "b"), "WanVideoNAG")) == 2
    without = plan(boat, negative_prompt="blur", recipe="lightx2v", has_nag=False)
    assert without.nag is None and any("no node for NAG" in warning for warning in without.warnings)
    assert "WanVideoNAG" not in classes(build(without, "a", "b"))


def test_three_phases_are_three_samplers_the_first_without_loras_and_alone_with_cfg(boat):
    phased = plan(boat, recipe="three-phase", loras=("lightx2v",), negative_prompt="blur")
    graph = build(phased, "boat.png", "video/boat")
    plain, high, low = inputs(graph, "KSamplerAdvanced")
    assert (plain["cfg"], high["cfg"], low["cfg"]) == (3.5, 1, 1)
    assert (plain["end_at_step"], high["start_at_step"], high["end_at_step"]) == (1, 1, low["start_at_step"])
    assert len(inputs(graph, "LoraLoaderModelOnly")) == len(inputs(graph, "WanVideoNAG")) == 2
    assert build(again(graph, boat), "boat.png", "video/boat") == graph
    plain["end_at_step"] = high["start_at_step"] = 2
    with pytest.raises(InvalidRequest, match="as in the recipe three-phase"):
        read(graph)


def test_a_first_and_a_last_picture(boat):
    graph = build(plan(boat, last_image=str(boat)), "first.png", "video/boat", "last.png")
    (start,) = inputs(graph, "WanFirstLastFrameToVideo")
    pictures = [graph[start[name][0]]["inputs"]["image"] for name in ("start_image", "end_image")]
    assert pictures == ["first.png", "last.png"]
    assert read(graph).fields["last_image"] == "last.png"


def test_tiles_are_of_space_only(boat):
    tiled = plan(boat)
    tiled = tiled.model_copy(update={"comfyui": tiled.comfyui.model_copy(update={"tiled": True})})
    (decode,) = inputs(build(tiled, "a", "b"), "VAEDecodeTiled")
    assert decode["temporal_size"] >= tiled.model_frames and decode["temporal_size"] % 4 == 0


def test_the_official_recipe_is_planned_as_comfyui_makes_it(boat):
    official = plan(boat, recipe="official")
    assert (official.sampler, official.scheduler, len(official.steps)) == ("euler", "simple", 40)
    assert any("in place of unipc and linear" in warning for warning in official.warnings)
    assert official.peaks == () and official.times == ()
    near = np.abs(np.array(official.sigmas) - schedule.sigmas("linear", 5.0, 40))
    assert near.max() < 0.006, "the shift of 5 stretches 0.001"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sampler": "unipc"}, "sampler"),
        ({"scheduler": "linear"}, "scheduler"),
        ({"model": "mini"}, "model"),
        ({"model": "a14b"}, "model"),
        ({"fps": 0.5}, "fps"),
        ({"model": "rapid-aio", "loras": ("lightx2v",)}, "loras"),
        ({"loras": ("some.safetensors:99",)}, "loras"),
        ({"comfyui_url": "ftp://x"}, "comfyui_url"),
        ({"comfyui_url": "http://me:secret@x"}, "comfyui_url"),
    ],
)
def test_what_comfyui_cannot_do_is_refused_by_name(boat, fields, field):
    with pytest.raises(InvalidRequest) as refused:
        plan(boat, **fields)
    assert refused.value.field == field


def test_a_plan_of_this_program_is_no_graph(boat):
    local = plan(boat).model_copy(update={"comfyui": None})
    with pytest.raises(InvalidRequest, match="--backend comfyui"):
        build(local, "a", "b")


def test_the_url_is_no_part_of_what_makes_the_bytes(boat):
    one, other = plan(boat), plan(boat, comfyui_url="http://127.0.0.1:2/")
    assert one.fingerprint() == other.fingerprint()
    assert (
        plan(boat, loras_high=("a.safetensors",)).fingerprint()
        != plan(boat, loras_high=("b.safetensors",)).fingerprint()
    )


@given(st.text("()\\a:1 "))
def test_brackets_of_a_prompt_are_no_weights(text):
    assert unescaped(escaped(text)) == text
    assert escaped(text).count("(") == escaped(text).count("\\(")


@given(st.integers(1, 200), st.sampled_from(["beta", "simple", "normal"]), st.sampled_from([1.0, 5.0, 8.0]))
@settings(max_examples=15)
def test_the_asked_steps_give_the_plans_sigmas(boat, steps, scheduler, shift):
    made = plan(boat, num_inference_steps=steps, scheduler=scheduler, sampler="euler", flow_shift=shift)
    assert schedule.sigmas(scheduler, shift, asked_steps(made)) == made.sigmas


SCALE = st.floats(0, 50).map(lambda value: round(value, 3))
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)
LORAS = st.lists(st.sampled_from(["a.safetensors:0.5", "sub/b.safetensors", "c (x).safetensors:-1.25"]), max_size=2)


@given(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["a14b-fp8", "a14b-gguf", "a14b-gguf:Q6_K", "rapid-aio"]),
            "prompt": TEXT,
            "negative_prompt": TEXT,
            "allow_speech": st.booleans(),
            "width": st.integers(16, 2000),
            "height": st.integers(16, 2000),
            "num_frames": st.integers(1, 200),
            "fps": st.floats(1, 120).map(lambda value: round(value, 3)),
            "seed": st.integers(0, 2**63 - 1),
            "sampler": st.sampled_from(["lcm", "euler", None]),
            "scheduler": st.sampled_from(["beta", "simple", "normal", None]),
            "flow_shift": st.floats(0.5, 12).map(lambda value: round(value, 2)),
            "num_inference_steps": st.integers(1, 60),
            "guidance_scale_high": SCALE | st.just(1.0),
            "nag": st.booleans(),
            "nag_scale": st.floats(1, 50),
            "nag_tau": st.floats(1, 50),
            "nag_alpha": st.floats(0, 1),
        },
        optional={
            "recipe": st.sampled_from(["rapid", "lightx2v", "three-phase", "official"]),
            "last_image": st.just("boat.png"),
            "boundary_ratio": st.floats(0, 1),
            "guidance_scale_low": SCALE,
            "loras": LORAS,
            "loras_high": LORAS,
            "loras_low": LORAS,
        },
    )
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_a_plan_comes_back_from_its_graph(boat, fields):
    if fields["model"] == "rapid-aio":
        dropped = ("boundary_ratio", "guidance_scale_low", "loras_high", "loras_low")
        fields = {name: value for name, value in fields.items() if name not in dropped}
    if "last_image" in fields:
        fields["last_image"] = str(boat)
    try:
        first = plan(boat, **fields)
    except InvalidRequest:
        # Sizes that geometry refuses.
        assume(False)
    graph = build(first, "boat.png", "video/boat", "boat.png")
    json.loads(json.dumps(graph))
    second = again(graph, boat)
    assert build(second, "boat.png", "video/boat", "boat.png") == graph
    for name in (
        "prompt",
        "negative_prompt",
        "width",
        "height",
        "num_frames",
        "fps",
        "seed",
        "nag",
        "sampler",
    ):
        assert getattr(second, name) == getattr(first, name), name
    assert second.comfyui == first.comfyui and second.sigmas == first.sigmas


def edited(boat, class_type, index=0, **changes):
    """A graph of ours with inputs of one node changed."""
    graph = build(plan(boat, loras=("lightx2v",), nag=False), "boat.png", "video/boat")
    node_id = [node_id for node_id, node in graph.items() if node["class_type"] == class_type][index]
    graph[node_id]["inputs"] |= changes
    return graph, node_id


@pytest.mark.parametrize(
    ("class_type", "index", "changes", "told"),
    [
        ("KSamplerAdvanced", 1, {"start_at_step": 3}, "start_at_step"),
        ("KSamplerAdvanced", 1, {"end_at_step": 3}, "end_at_step"),
        ("KSamplerAdvanced", 1, {"steps": 8}, "steps"),
        ("KSamplerAdvanced", 1, {"add_noise": "enable"}, "add_noise"),
        ("KSamplerAdvanced", 0, {"sampler_name": "dpmpp_2m"}, "sampler"),
        ("KSamplerAdvanced", 0, {"cfg": "much"}, "a number"),
        ("ModelSamplingSD3", 0, {"shift": 1.0}, "the same for both experts"),
        ("WanImageToVideo", 0, {"batch_size": 2}, "batch_size"),
        ("WanImageToVideo", 0, {"clip_vision_output": ["1", 0]}, "only pictures"),
        ("ImageFromBatch", 0, {"batch_index": 1}, "batch_index"),
        ("CreateVideo", 0, {"images": ["99", 0]}, "the id of a node"),
        ("CreateVideo", 0, {"images": "frames"}, "a link"),
    ],
)
def test_what_is_not_understood_is_named(boat, class_type, index, changes, told):
    graph, node_id = edited(boat, class_type, index, **changes)
    with pytest.raises(InvalidRequest) as refused:
        read(graph)
    assert told in str(refused.value)
    assert f"node {node_id}" in str(refused.value) or "both experts" in told


def test_a_foreign_node_on_the_way_is_named_and_one_beside_it_is_not(boat):
    graph, node_id = edited(boat, "ModelSamplingSD3")
    graph["77"] = {"class_type": "PathchSageAttentionKJ", "inputs": {"model": graph[node_id]["inputs"]["model"]}}
    read(graph)
    graph[node_id]["inputs"]["model"] = ["77", 0]
    with pytest.raises(InvalidRequest, match=r"node 77 \(PathchSageAttentionKJ\)"):
        read(graph)


def test_a_chain_that_goes_in_a_circle_ends(boat):
    graph, node_id = edited(boat, "ModelSamplingSD3")
    graph[node_id]["inputs"]["model"] = [node_id, 0]
    with pytest.raises(InvalidRequest, match="begins with a loader"):
        read(graph)


def test_numbers_may_stand_in_primitive_nodes_and_no_shift_is_comfyuis(boat):
    graph, _ = edited(boat, "CreateVideo", fps=["50", 0])
    graph["50"] = {"class_type": "PrimitiveFloat", "inputs": {"value": 16.0}}
    for node in graph.values():
        if node["class_type"] == "KSamplerAdvanced":
            node["inputs"]["model"] = graph[node["inputs"]["model"][0]]["inputs"]["model"]
    fields = read(graph).fields
    assert (fields["fps"], fields["flow_shift"]) == (16.0, 8.0)


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_one_video(boat, count):
    graph, node_id = edited(boat, "SaveVideo")
    saving = graph.pop(node_id)
    graph |= {str(90 + number): saving for number in range(count)}
    with pytest.raises(InvalidRequest, match="exactly one"):
        read(graph)


def test_files_of_no_row_come_with_the_row_to_write(boat):
    graph, _ = edited(boat, "VAELoader", vae_name="other.safetensors")
    with pytest.raises(CheckpointError, match=r'vae = "other.safetensors".*models.toml'):
        elsewhere.model_of(read(graph).files)


def test_files_in_subfolders_are_known_by_their_name(boat):
    graph, _ = edited(boat, "VAELoader", vae_name="wan\\wan_2.1_vae.safetensors")
    assert elsewhere.model_of(read(graph).files) == "a14b-fp8"


def test_a_graph_is_found_in_json_a_picture_and_a_video(boat, tmp_path):
    graph, _ = edited(boat, "SaveVideo")
    text = json.dumps(graph)
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "post.json").write_text(json.dumps({"prompt": graph, "client_id": "x"}))
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with av.open(tmp_path / "a.mp4", "w", options={"movflags": "use_metadata_tags"}) as output:
        output.metadata["prompt"] = text
        stream = output.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    for name in ("a.json", "post.json", "a.png", "a.mp4"):
        assert finding.find(tmp_path / name) == graph, name


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("absent.json", None, "exists"),
        ("a.json", b"{", "no JSON"),
        ("a.json", b"\xff\xfe", "no UTF-8"),
        ("a.json", b"[]", "class_type and inputs"),
        ("a.json", b'{"1": {"class_type": "X"}}', "class_type and inputs"),
        ("a.json", b'{"1": {"class_type": "X", "inputs": {"a": [1]}}}', "class_type and inputs"),
        ("a.json", b'{"nodes": [], "links": []}', r"Export \(API\)"),
        ("a.mp4", b"nothing", "cannot be read"),
    ],
)
def test_files_without_a_graph_are_told_apart(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=told):
        finding.find(tmp_path / name)


def test_a_picture_without_a_graph_says_so(boat):
    with pytest.raises(InvalidRequest, match="carries none"):
        finding.find(boat)


def test_a_request_says_nothing_of_the_backend_by_itself(boat):
    asked = request(boat, backend=None, comfyui_url=None)
    assert asked.backend is None and asked.comfyui_url is None
