"""What a wrong command is told: what was given, what is allowed, what to do next, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from wan2_i2v.doors.cli import main

EXPORT = ["export-workflow", "boat.png", "--model", "a14b-fp8"]
UNWRITABLE = "taken/w.json"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory with a picture, a text under a picture's name, an empty folder and a file `taken`."""
    for name in ("WAN2_I2V_OUTPUT", "WAN2_I2V_INPUT", "WAN2_I2V_DEBUG", "WAN2_I2V_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save("boat.png")
    Path("text.png").write_text("hello\n")
    Path("taken").write_text("a file, so no folder can have this name")
    Path("empty").mkdir()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([*EXPORT, "-o", UNWRITABLE], 7, ["cannot write taken/w.json", "Choose another --output"]),
        ([*EXPORT, "--last-image", "missing"], 2, ["last_image: got 'missing'", "Looked in"]),
        (["plan", "boat.png", "--last-image", "missing"], 2, ["last_image: got 'missing'", "Looked in"]),
        (["plan", "boat.png", "--last-image", "text.png"], 2, ["last_image: got", "text.png", "save it as PNG"]),
        (["analyze", "text.png"], 2, ["image: got 'text.png'", "a JPEG, PNG", "save it as PNG"]),
        (["analyze", "empty"], 2, ["not a folder", "Name one of the pictures"]),
        (["inspect", "text.png"], 2, ["video: got 'text.png'", "a whole mp4", "copy or download it again"]),
        (["inspect", "boat.png"], 2, ["a clip that this program made", "wan2-i2v verify"]),
        (["inspect", "empty"], 2, ["numbered from 0", "Name a file"]),
        (["verify", "boat.png", "--against", "text.png"], 2, ["against: got 'text.png'", "save it as PNG"]),
        (["verify", "missing.mp4"], 2, ["a file that exists", "Check the name"]),
        (["plan", "boat.png", "--model", "empty"], 4, ["model_index.json is missing", "wan2-i2v models list"]),
        (["plan", "boat.png", "--lora", "boat.png"], 4, ["boat.png holds no weights", "Give a .safetensors"]),
        (["plan", "boat.png", "--lora", "text.png"], 4, ["text.png holds no weights", "Give a .safetensors"]),
        (["plan", "boat.png", "-o", "out.avi"], 2, ["out.avi", "ending in .mp4", "--container webm for .webm"]),
        (["plan", "boat.png", "-o", "out.PNG"], 2, ["out.PNG", "--container png for a folder of PNG frames"]),
        (["prompt"], 2, ["prompt: got nothing", "--subject and --action", "Such as: wan2-i2v prompt"]),
        (["serve", "--port", "99999"], 2, ["port: got '99999'", "a whole number from 0 to 65535"]),
        (["serve", "--port", "-1"], 2, ["port: got '-1'", "a whole number from 0 to 65535"]),
        (["insights", "import", "missing"], 2, ["file: got 'missing'", "a file that exists", "Check the name"]),
        (["insights", "import", "boat.png"], 2, ["no text in JSON lines", "exported again"]),
        (["insights", "import", "empty"], 2, ["insights export wrote", "exported again"]),
        (["insights", "export", "taken/runs.jsonl"], 7, ["cannot write taken/runs.jsonl", "Name another FILE"]),
        (["insights", "export", "boat.png"], 7, ["boat.png exists", "Name another FILE"]),
        (["insights", "report", "taken"], 7, ["cannot write taken", "Name another FOLDER"]),
        (["bench", "--model", "nope"], 4, ["'nope' is neither", "wan2-i2v models list"]),
        (["bench", "--out", "taken/b.json"], 7, ["taken cannot be made (File exists)", "choose another --out"]),
        (["plan", "boat.png", "--lora", ""], 2, ["loras: got ''", "The flag is --lora."]),
        (["plan", "boat.png", "--vram", "0"], 2, ["--vram: got '0'", "a number from 1 to 2048"]),
        (["plan", "boat.png", "--vram", "nan"], 2, ["--vram: got 'nan'", "a number from 1 to 2048"]),
        (["serve", "--retain-days", "0"], 2, ["--retain-days: got '0'", "a number from 0.01. See"]),
        (
            ["plan", "boat.png", "--vram", "8", "--device", "cpu"],
            2,
            ["device: got 'cpu'", "with --vram", "Leave them out"],
        ),
        (["plan", "--table", "boat.png"], 2, ["IMAGE: got", "nothing with --table", "its own sizes"]),
        (["plan", "--table", "-l", "33"], 2, ["num_frames: got '33'", "nothing with --table"]),
        (
            ["plan", "--table", "--lora", "gone.safetensors"],
            2,
            ["loras: got 'gone.safetensors'", "a name of the catalog"],
        ),
        (["models"], 2, ["a command is missing", "--help"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_command_is_told_what_to_do(capsys, arguments, code, says):
    before = {path: path.read_bytes() for path in Path().glob("*") if path.is_file()}
    assert main(arguments) == code
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert [words for words in says if words not in told] == []
    assert "Errno" not in told and "got None" not in told
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in Path().iterdir()) == ["boat.png", "empty", "taken", "text.png"]


def test_nothing_is_an_answer_in_json_too(capsys):
    assert main(["prompt", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["given"] == "nothing"


def test_an_existing_folder_may_be_called_like_a_video(capsys):
    Path("out.avi").mkdir()
    assert main(["plan", "boat.png", "-o", "out.avi", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == str(Path("out.avi").absolute())


def test_an_empty_prompt_is_a_wish_and_not_the_default(capsys):
    assert main(["plan", "boat.png", "-p", "", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["prompt"] == ""
    assert any("the prompt is empty" in warning for warning in plan["warnings"])


def test_an_unknown_model_is_refused_before_torch_is_loaded():
    program = "import sys; from wan2_i2v.doors.cli import main; print(main(['bench', '--model', 'nope']), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4 False"


def test_an_export_may_be_made_anew_and_nothing_else_is_replaced(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WAN2_I2V_INSIGHTS", str(tmp_path / "empty" / "insights.db"))
    assert main(["insights", "export", "runs.jsonl"]) == main(["insights", "export", "runs.jsonl"]) == 0


@pytest.mark.parametrize("name", ["report.html", "report.png"])
def test_a_report_may_be_written_anew_and_nothing_else_is_replaced(capsys, name):
    assert main(["verify", "boat.png", "--report", name]) == main(["verify", "boat.png", "--report", name])
    mine = b"mine" if name.endswith("html") else Path("boat.png").read_bytes()
    Path(name).write_bytes(mine)
    capsys.readouterr()
    assert main(["verify", "boat.png", "--report", name]) == 7
    assert "no report" in capsys.readouterr().err and Path(name).read_bytes() == mine
