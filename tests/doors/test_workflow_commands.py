"""export-workflow and import-workflow on the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from wan2_i2v.doors.cli import main


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in ("WAN2_I2V_OUTPUT", "WAN2_I2V_INPUT", "WAN2_I2V_BACKEND", "WAN2_I2V_COMFYUI_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").convert("RGB").resize((96, 64)).save("boat.png")


EXPORT = ["export-workflow", "boat.png", "--model", "a14b-fp8", "--lora", "lightx2v", "-l", "9", "--seed", "5"]


def test_a_workflow_goes_out_and_comes_back_as_a_command(capsys):
    assert main([*EXPORT, "-o", "out/flow.json", "--last-image", "boat.png", "-p", "It rocks."]) == 0
    assert capsys.readouterr().out.strip() == str(Path("out/flow.json"))
    graph = json.loads(Path("out/flow.json").read_text())
    assert "WanFirstLastFrameToVideo" in {node["class_type"] for node in graph.values()}
    with Image.open("out/flow-first.png") as picture, Image.open("out/flow-last.png") as last:
        assert picture.size == last.size and picture.size[0] % 16 == 0
    assert main(["import-workflow", "out/flow.json"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[:3] == ["wan2-i2v", "generate", str(Path("out/flow-first.png"))]
    assert words[words.index("--seed") + 1] == "5" and words.count("--lora-high") == 1
    # The command that came back makes the same workflow.
    assert main(["export-workflow", *words[2:], "-o", "again.json"]) == 0
    again = json.loads(Path("again.json").read_text().replace("again", "flow"))
    assert strip(again) == strip(graph)


def strip(graph):
    """A graph without the job's name, which is made of the picture's."""
    return {key: node for key, node in graph.items() if node["class_type"] != "SaveVideo"}


def test_a_workflow_as_a_row_of_a_job_list(capsys):
    assert main([*EXPORT, "--overwrite", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == ["boat-5-first.png"]
    target = told["workflow"]
    assert target == "boat-5.json"
    assert main(["import-workflow", target, "--json", "--model", "a14b-fp8"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["seed"], row["num_frames"], row["model"]) == (5, 9, "a14b-fp8")


def test_pictures_beside_the_workflow_never_have_the_name_of_the_users_own(capsys):
    mine = Path("boat.png").read_bytes()
    assert main([*EXPORT, "-o", "boat.json"]) == 0
    assert main([*EXPORT, "-o", "boat.json", "--overwrite"]) == 0
    assert Path("boat.png").read_bytes() == mine
    graph = json.loads(Path("boat.json").read_text())
    (name,) = (node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage")
    assert name == "boat-first.png" and Path(name).is_file()


def test_nothing_is_overwritten_unasked(capsys):
    Path("flow.json").write_text("mine")
    assert main([*EXPORT, "-o", "flow.json"]) == 7
    assert "--overwrite" in capsys.readouterr().err and Path("flow.json").read_text() == "mine"


def test_what_cannot_be_read_or_planned_is_said(capsys):
    assert main(["import-workflow", "boat.png"]) == 2
    assert "carries none" in capsys.readouterr().err
    assert main(["export-workflow", "boat.png", "--model", "mini"]) == 2
    assert "a14b-fp8" in capsys.readouterr().err


def test_a_plan_for_comfyui_is_shown_without_memory(capsys):
    flags = ["--model", "a14b-fp8", "--backend", "comfyui", "--comfyui-url", "http://127.0.0.1:1"]
    assert main(["plan", "boat.png", *flags]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "in ComfyUI at http://127.0.0.1:1" in told and "nothing was checked" in told
    assert "peak GiB" not in told
    assert main(["generate", "boat.png", *flags]) == 11
