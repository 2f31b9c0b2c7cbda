"""The old container's command: how values are found, and real runs on the embedded model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import generate_video
import pytest
from PIL import Image

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media import reader
from wan2_i2v.presets import DEFAULT_PROMPT, MOUTH_NEGATIVE
from wan2_i2v.record import Record

SCRIPT = Path(generate_video.__file__).resolve()
DEFAULTS = {
    "image": "a.png",
    "prompt": DEFAULT_PROMPT,
    "negative_prompt": MOUTH_NEGATIVE,
    "width": None,
    "height": None,
    "num_frames": 72,
    "num_inference_steps": 4,
    "seed": None,
    "fps": 24.0,
    "guidance_scale_high": 1.0,
    "guidance_scale_low": 1.0,
    "flow_shift": 8.0,
    "sampler": "lcm",
    "scheduler": "beta",
    "crop": "center",
    "batch_size": 1,
    "job_id": None,
}


def values(arguments=(), **environment):
    flags = vars(generate_video.parser().parse_args(["-i", "a.png", *arguments]))
    return generate_video.resolve(flags, environment)


def changes(found):
    return {name: value for name, value in found.items() if value != DEFAULTS[name]}


def test_the_defaults():
    assert values() == DEFAULTS


@pytest.mark.parametrize(
    ("flag", "variable", "text", "wanted"),
    [
        ("-p", "POSITIVE_PROMPT", "x", {"prompt": "x"}),
        ("--positive-prompt", "POSITIVE_PROMPT", "", {"prompt": ""}),
        ("-n", "NEGATIVE_PROMPT", "", {"negative_prompt": ""}),
        ("-w", "WIDTH", "0", {"width": 0}),
        ("--height", "HEIGHT", "480", {"height": 480}),
        ("-l", "LENGTH", "0", {"num_frames": 0}),
        ("--steps", "STEPS", "8", {"num_inference_steps": 8}),
        ("--seed", "SEED", "0", {"seed": 0}),
        ("--fps", "FPS", "16", {"fps": 16.0}),
        ("--cfg", "CFG", "0.0", {"guidance_scale_high": 0.0, "guidance_scale_low": 0.0}),
        ("--shift", "SHIFT", "0", {"flow_shift": 0.0}),
        ("--sampler", "SAMPLER_NAME", "euler", {"sampler": "euler"}),
        ("--scheduler", "SCHEDULER", "", {"scheduler": ""}),
        ("--crop", "CROP", "top", {"crop": "top"}),
        ("--batch-size", "BATCH_SIZE", "3", {"batch_size": 3}),
        ("--job-id", "JOB_ID", "mine", {"job_id": "mine"}),
    ],
)
def test_flag_then_variable_then_default(flag, variable, text, wanted):
    assert changes(values([flag, text])) == wanted
    assert changes(values(**{variable: text})) == wanted
    assert changes(values([flag, text], **{variable: "7"})) == wanted


def test_the_model_is_that_of_the_settings(monkeypatch):
    assert generate_video.requests(values())[0].model == "mini"
    monkeypatch.setenv("WAN2_I2V_MODEL", "rapid-aio")
    assert generate_video.requests(values())[0].model == "rapid-aio"


@pytest.mark.parametrize("name", [item.variable for item in generate_video.ARGUMENTS if item.kind is not str])
def test_an_empty_number_variable_is_unset(name):
    assert values(**{name: ""}) == DEFAULTS


def test_the_picture_comes_from_flag_or_variable():
    parsed = vars(generate_video.parser().parse_args([]))
    assert generate_video.resolve(parsed, {"INPUT_IMAGE": "b.png"})["image"] == "b.png"
    for environment in ({}, {"INPUT_IMAGE": ""}):
        with pytest.raises(InvalidRequest, match=r"--input-image \(INPUT_IMAGE\)"):
            generate_video.resolve(parsed, environment)


@pytest.mark.parametrize(
    ("arguments", "environment", "names"),
    [
        (["--steps", "four"], {}, "--steps (STEPS)"),
        ([], {"FPS": "fast"}, "--fps (FPS)"),
        (["--steps", ""], {}, "--steps (STEPS)"),
        ([], {"CROP": "middle"}, "--crop (CROP)"),
        ([], {"SAMPLER_NAME": ""}, "--sampler (SAMPLER_NAME)"),
        ([], {"LENGTH": "0"}, "--length (LENGTH)"),
        (["--shift", "0"], {}, "--shift (SHIFT)"),
        (["--cfg", "nan"], {}, "--cfg (CFG)"),
        (["--batch-size", "0"], {}, "--batch-size (BATCH_SIZE)"),
        ([], {"JOB_ID": "a/b"}, "--job-id (JOB_ID)"),
    ],
)
def test_what_cannot_work_is_named_by_flag_and_variable(arguments, environment, names):
    with pytest.raises(InvalidRequest) as caught:
        generate_video.requests(values(arguments, **environment))
    assert str(caught.value).startswith(f"{names}: got ")


def test_jobs_are_named_after_their_seeds():
    assert [request.job_id for request in generate_video.requests(values(["--seed", "0"]))] == ["cli-job-0"]
    batch = generate_video.requests(values(["--seed", "5", "--batch-size", "3"]))
    assert [(request.seed, request.job_id) for request in batch] == [
        (5, "cli-job-5"), (6, "cli-job-6"), (7, "cli-job-7"),
    ]  # fmt: skip
    named = generate_video.requests(values(["--seed", "5", "--batch-size", "2", "--job-id", "x"]))
    assert [request.job_id for request in named] == ["x-1", "x-2"]
    drawn = {generate_video.requests(values())[0].seed for _ in range(3)}
    assert len(drawn) > 1


@pytest.fixture
def run(tmp_path):
    """Run the script as its users do, in a folder with input/boat.png and no variables of ours."""
    (tmp_path / "input").mkdir()
    Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(tmp_path / "input" / "boat.png")
    ours = {item.variable for item in generate_video.ARGUMENTS} | {"WAN2_I2V_OUTPUT", "WAN2_I2V_INPUT"}
    clean = {name: value for name, value in os.environ.items() if name not in ours}

    def run(*arguments, **environment):
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=clean | environment, capture_output=True, text=True, check=False, timeout=300
        )

    return run


def test_a_batch_becomes_verified_files_under_output(run, tmp_path):
    small = {"WIDTH": "64", "HEIGHT": "64", "LENGTH": "99", "STEPS": ""}
    done = run("-i", "boat.png", "-l", "10", "--seed", "0", "--batch-size", "2", **small)
    videos = [tmp_path / "output" / f"cli-job-{seed}.mp4" for seed in (0, 1)]
    assert [Path(line) for line in done.stdout.splitlines()] == videos, done.stderr
    for video in videos:
        facts = reader.probe(video)
        assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, 10, 24)
    records = [Record(**json.loads(Path(f"{video}.json").read_text())) for video in videos]
    assert [len(record.plan.steps) for record in records] == [4, 4]
    passed = all(record.verification is not None and record.verification.passed for record in records)
    assert done.returncode == (0 if passed else 3), done.stderr
    assert "seed 0" in done.stderr


def test_without_a_video_the_exit_code_is_not_0(run):
    missing = run("-i", "none.png")
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (2, "", 1)
    assert "none.png" in missing.stderr
    assert run(SEED="x", INPUT_IMAGE="boat.png").returncode == 2


def test_help_names_every_variable(capsys):
    with pytest.raises(SystemExit) as stopped:
        generate_video.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(f"[{item.variable}]" in " ".join(text.split()) for item in generate_video.ARGUMENTS)
