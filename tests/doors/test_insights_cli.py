"""The commands insights and rate, on jobs that were really made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from wan2_i2v import api
from wan2_i2v.doors.cli.app import main
from wan2_i2v.insights.book import Book
from wan2_i2v.request import GenerateRequest
from wan2_i2v.stages import private


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAN2_I2V_INSIGHTS", str(tmp_path / "insights.db"))
    monkeypatch.delenv("WAN2_I2V_OUTPUT", raising=False)
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save("boat.png")


def make(checkpoint, **fields):
    known = {"image": "boat.png", "model": str(checkpoint), "num_frames": 5, "width": 48, "height": 32, "seed": 3}
    return api.generate(GenerateRequest(**(known | {"device": "cpu"} | fields)))


def test_every_run_is_noted_and_can_be_rated_shared_and_reported(checkpoint, capsys):
    make(checkpoint, best_of=4)
    make(checkpoint)  # the same picture and seed alone is another job
    assert main(["rate", "boat-3", "5"]) == 0
    with Book() as book:
        runs = book.runs()
    assert len(runs) == 5
    assert [run.rating for run in runs].count(5) == 1
    assert main(["insights", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["runs"] == 5
    (size,) = told["sizes"]
    assert (size["width"], size["fitted"]["count"]) == (48, 5)
    if private.CLEAR.exists():
        # Peaks of this very process were measured by the stages, and went through records into the book.
        peaks = [json.loads(file.read_text())["peaks"] for file in Path("output/jobs").glob("*/**/record.json")]
        assert all(one.keys() >= {"text", "denoise high", "decode"} for one in peaks)
        assert 0 < size["peak_gib"] == max(peak for one in peaks for peak in one.values())
    assert {rate["check"] for rate in told["rates"]} >= {"all checks", "noise"}
    assert main(["insights"]) == 0
    told = capsys.readouterr().out
    assert "memory sufficed in 100% of 5 (57%–100%)" in told and "peak " in told
    preset = [line.split(": ", 1)[1] for line in told.splitlines() if line.startswith("preset own prompt: ")]
    assert preset[0].startswith("all checks passed in ")
    assert preset[-1].startswith("never failed: ") and "frame_count" in preset[-1]
    assert not any("frame_count" in line for line in preset[:-1])
    assert main(["insights", "export", "shared.jsonl"]) == 0
    assert main(["insights", "import", "shared.jsonl"]) == 0
    assert "0 of 5 runs are new" in capsys.readouterr().out
    assert main(["insights", "report", "report"]) == 0
    assert Path("report/knowledge-base.md").is_file()


def test_rating_a_job_from_before_the_insights(checkpoint, tmp_path):
    make(checkpoint)
    (tmp_path / "insights.db").unlink()
    assert main(["rate", "boat-3", "2"]) == 0
    with Book() as book:
        assert [run.rating for run in book.runs()] == [2]


@pytest.mark.parametrize("container", ["mp4", "png"])
def test_a_video_may_be_named_to_rate_it(checkpoint, container, capsys):
    made = make(checkpoint, container=container, output=f"mine{'.mp4' if container == 'mp4' else ''}")
    assert main(["rate", made.video, "4"]) == 0
    assert f"{made.video}: rated 4 of 5" in capsys.readouterr().err
    with Book() as book:
        assert [run.rating for run in book.runs()] == [4]


def test_a_file_that_no_job_made_cannot_be_rated(checkpoint, capsys):
    make(checkpoint)
    assert main(["rate", "boat.png", "4"]) == 8
    assert "boat.png" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [(["no-such-job", "3"], 8), (["no-such-job", "6"], 2)])
def test_ratings_that_cannot_be(arguments, code):
    assert main(["rate", *arguments]) == code


def test_insights_that_cannot_be_written_cost_no_job(checkpoint, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WAN2_I2V_INSIGHTS", str(tmp_path / "file" / "insights.db"))
    assert make(checkpoint).status == "done"
