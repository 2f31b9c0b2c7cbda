"""The examples: short, and each runs as it is."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from wan2_i2v import joblist
from wan2_i2v.request import GenerateRequest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WAN2_I2V_OUTPUT", "WAN2_I2V_INPUT"):
        monkeypatch.delenv(name, raising=False)


def run(name, capsys):
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 30, path.name


def test_every_example_is_tested():
    # The clients of a server are tested with one: tests/doors/http/test_openai.py and test_runpod.py.
    tested = {
        "openai_client",
        "runpod_client",
        "plan_first",
        "one_picture",
        "many_pictures",
        "cancel_and_resume",
        "contact_sheet",
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_plan_first(capsys):
    lines = run("plan_first", capsys)
    assert "72 of 73 frames" in lines[0]
    assert lines[-1].startswith("num_frames 0 ")


def test_one_picture_and_its_contact_sheet(capsys, monkeypatch):
    video, *checks = run("one_picture", capsys)
    assert Path(video) == Path("output/boat-7.mp4").absolute()
    assert all(line.startswith(("passed ", "FAILED ")) for line in checks)
    assert len(checks) > 5

    monkeypatch.setattr(sys, "argv", ["contact_sheet.py", "output"])
    assert run("contact_sheet", capsys) == ["output/contact-sheet.png"]
    with Image.open("output/contact-sheet.png") as sheet:
        assert sheet.width > 5 * 288


def test_many_pictures(capsys):
    lines = run("many_pictures", capsys)
    names = sorted(path.stem for path in (EXAMPLES / "pictures").glob("*.png"))
    assert [line.split()[:2] for line in lines[-len(names) :]] == [[f"{name}-1", "done"] for name in names]


def test_cancel_and_resume(capsys):
    stopped, video = run("cancel_and_resume", capsys)
    assert "wan2-i2v resume" in stopped
    assert Path(video).is_file()


def test_the_demo_list_is_valid():
    rows = joblist.read(EXAMPLES / "demo.jsonl", {})
    assert len(rows) >= 4
    for row in rows:
        assert isinstance(row.request, GenerateRequest)
        assert Path(row.request.image).is_file()
