"""What a server is asked directly, and the clip's latents: those of a real ComfyUI against the golden ones and our own."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from comfy_plans import picture, plan
from comfy_real import CHECKOUT
from safetensors.numpy import load

from wan2_i2v.comfyui.client import ComfyUI
from wan2_i2v.comfyui.graph import Graph, build
from wan2_i2v.errors import ComfyUIError

REAL = ["real"] if CHECKOUT else []
EXACT = 1e-3
"""The largest difference of any latent, which has a standard deviation of about 1."""


@pytest.fixture
def client(server):
    known = ComfyUI(server.url)
    yield known
    known.close()


@pytest.mark.parametrize("server", ["old", "new", *REAL], indirect=True)
def test_a_server_knows_nothing_of_an_unknown_id(client):
    assert client.look(str(uuid.uuid4())).state == "unknown"


@pytest.mark.parametrize("server", ["real"], indirect=True)
def test_a_real_server_names_node_and_input_of_a_file_that_it_lacks(server, client, tmp_path):
    graph = build(plan(picture(tmp_path)), "boat.png", "video/boat")
    graph["1"]["inputs"]["clip_name"] = "absent.safetensors"
    with pytest.raises(ComfyUIError, match=r"node 1 \(CLIPLoader\).*clip_name: 'absent.safetensors'"):
        client.submit(graph, str(uuid.uuid4()), "a-test")
    assert not server.waiting and not server.running


@pytest.mark.parametrize(
    ("name", "fields"), [("lcm_beta_8", {"recipe": "rapid"}), ("euler_simple_5", {"recipe": "lightx2v"})]
)
@pytest.mark.parametrize("server", ["real"], indirect=True)
def test_a_plans_graph_gives_the_golden_latents_on_a_real_server(name, fields, client, golden, tmp_path):
    asked = plan(picture(tmp_path), num_frames=9, seed=101, nag=False, **fields)
    latents = made(client, golden_graph(build(asked, "boat.png", "video/boat")), tmp_path / "golden.latent")
    # Our own stages meet the same file to 1e-3 in tests/stages/test_golden.py.
    reference = np.load(golden / "comfyui_two_expert.npz")[f"{name}.final"]
    assert latents.shape == reference.shape
    assert np.abs(latents - reference).max() < EXACT


def golden_graph(graph: Graph) -> Graph:
    """A plan's graph with the golden data's start in place of the picture's, and its latents saved as they are."""
    (video,) = (node_id for node_id, node in graph.items() if node["class_type"] == "SaveVideo")
    latents = next(node["inputs"]["samples"] for node in graph.values() if node["class_type"] == "VAEDecode")
    (start,) = (node for node in graph.values() if node["class_type"] == "WanImageToVideo")
    inputs = {name: start["inputs"][name] for name in ("positive", "negative")}
    start |= {"class_type": "GoldenStart", "inputs": inputs | {"frames": 3, "height": 8, "width": 12}}
    graph[video] = {"class_type": "SaveLatent", "inputs": {"samples": latents, "filename_prefix": "golden"}}
    return graph


def made(client: ComfyUI, graph: Graph, target: Path) -> np.ndarray:
    """The latents that a graph saves."""
    prompt_id = client.submit(graph, str(uuid.uuid4()), "a-test")
    deadline = time.monotonic() + 120
    while not (standing := client.look(prompt_id)).is_over:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert standing.state == "done", standing.failure
    ((file,),) = (told["latents"] for told in standing.outputs.values())
    client.download(file, target)
    return load(target.read_bytes())["latent_tensor"]
