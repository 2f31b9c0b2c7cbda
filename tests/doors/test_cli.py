"""The command line, run in this process on a tiny checkpoint: what it prints, where, and its exit codes."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from wan2_i2v.doors.cli import main
from wan2_i2v.doors.cli.app import app
from wan2_i2v.record import Record

PLAN_KEYS = {
    *("width", "height", "num_frames", "model_frames", "fps", "seed", "recipe", "sampler", "scheduler"),
    *("flow_shift", "steps", "warnings", "peaks"),
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory of its own, with two pictures in pictures/ and no colours or settings from outside."""
    for name in ("WAN2_I2V_OUTPUT", "WAN2_I2V_INPUT", "WAN2_I2V_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for name in ("boat", "house"):
        Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(f"pictures/{name}.png")
    return tmp_path


@pytest.fixture
def small(checkpoint):
    """Flags of a clip that takes a moment."""
    return ["--model", str(checkpoint), "--device", "cpu", "-l", "5", "-w", "48", "--height", "32", "--fps", "16"]


@pytest.fixture
def plans(capsys, small):
    """Run `plan --json` and return the exit code, the plans and the errors."""

    def run(*arguments):
        code = main(["plan", "--json", *small, *arguments])
        said = capsys.readouterr()
        return code, list(map(json.loads, said.out.splitlines())), list(map(json.loads, said.err.splitlines()))

    return run


def test_plan_as_json_has_every_number(plans):
    code, (plan,), problems = plans(
        "pictures/boat.png", "--seed", "0", "--recipe", "lightx2v", "-n", "blur", "--no-nag"
    )
    assert (code, problems) == (0, [])
    assert plan.keys() >= PLAN_KEYS
    assert (plan["width"], plan["height"], plan["num_frames"], plan["model_frames"]) == (48, 32, 5, 5)
    assert (plan["seed"], plan["recipe"], plan["sampler"], plan["scheduler"]) == (0, "lightx2v", "euler", "simple")
    assert [set(step) for step in plan["steps"]] == [{"sigma", "timestep", "expert", "guidance_scale", "plain"}] * 4
    assert plan["steps"][-1]["sigma"] > 0
    assert any("negative prompt" in warning for warning in plan["warnings"])
    assert not Path("output").exists()


def test_flags_reach_their_fields(plans):
    flags = [
        "-p",
        "",
        "--steps",
        "6",
        "--shift",
        "3.5",
        "--sampler",
        "unipc",
        "--scheduler",
        "normal",
        "--boundary",
        "0.5",
    ]
    places = ["--crop", "top", "--background", "black", "--format", "webm", "--crf", "20", "-o", "x", "--job-id", "me"]
    _, (plan,), _ = plans("pictures/boat.png", *flags, *places, "--cfg", "3", "--cfg-low", "2", "--overwrite")
    assert (plan["prompt"], len(plan["steps"]), plan["flow_shift"], plan["sampler"]) == ("", 6, 3.5, "unipc")
    assert (plan["scheduler"], plan["boundary_ratio"], plan["crop"], plan["background"]) == (
        "normal",
        0.5,
        "top",
        "black",
    )
    assert (plan["container"], plan["crf"], plan["job_id"], plan["overwrite"]) == ("webm", 20, "me", True)
    assert plan["output"] == str(Path("x").absolute())
    assert {step["expert"]: step["guidance_scale"] for step in plan["steps"]} == {"high": 3, "low": 2}


def test_a_preset_fills_what_the_flags_leave_out(capsys, checkpoint):
    arguments = ["pictures/boat.png", "--model", str(checkpoint), "-w", "48", "--height", "32", "--json"]
    main(["plan", *arguments, "--preset", "fireworks"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["num_frames"] == 120
    assert "fireworks" in plan["prompt"]
    main(["plan", *arguments, "--preset", "fireworks", "-p", "mine", "-l", "9"])
    plan = json.loads(capsys.readouterr().out)
    assert (plan["prompt"], plan["num_frames"]) == ("mine", 9)
    assert "daytime" in plan["negative_prompt"] and "no fireworks" not in plan["negative_prompt"]
    main(["plan", *arguments, "--preset", "fireworks:verbatim"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["prompt"].startswith("Beautiful fireworks exploding") and "no fireworks" in plan["negative_prompt"]


def test_a_folder_and_a_batch_become_many_clips(plans):
    Path("pictures/notes.txt").write_text("no picture")
    Path("pictures/.hidden.png").write_text("no picture")
    _, made, _ = plans("pictures", "--batch-size", "2", "--seed", "7")
    assert [(plan["job_id"], plan["seed"]) for plan in made] == [
        ("boat-7", 7), ("boat-8", 8), ("house-7", 7), ("house-8", 8),
    ]  # fmt: skip
    _, made, _ = plans("pictures/boat.png", "--batch-size", "2")
    assert made[1]["seed"] == made[0]["seed"] + 1


def test_plan_for_people(capsys, small):
    assert main(["plan", "pictures/boat.png", *small, "-p", "[red]x", "--seed", "5", "-l", "6"]) == 0
    text = capsys.readouterr().out
    for part in ("boat-5", "[red]x", "sigma", "denoise high", "6 frames (the model makes 9)", "output/boat-5.mp4"):
        assert part in text
    assert "warning: the model makes 9 frames" in text


def test_plan_for_another_machine(plans):
    card = ("--device", "auto", "--model", "a14b-fp8", "--vram")
    code, (plan,), problems = plans("pictures/boat.png", *card, "8", "--ram", "32")
    assert (code, problems, plan["device"]) == (0, [], "cuda:0")
    assert all(peak["memory_gib"] <= 7.4 and peak["ram_gib"] <= 32 for peak in plan["peaks"])
    assert {time["basis"] for time in plan["times"]} == {"estimate"}
    code, nothing, (problem,) = plans("pictures/boat.png", *card, "2")
    assert (code, nothing, problem["error"]["code"]) == (5, [], "does_not_fit")


def test_plan_shows_memory_time_and_the_guidance_of_every_step(small, capsys, monkeypatch, tmp_path):
    # Nothing was measured yet, whatever other tests have run.
    monkeypatch.setenv("WAN2_I2V_CACHE", str(tmp_path / "cache"))
    assert main(["plan", "pictures/boat.png", *small, "-n", "talking", "--cfg-high", "3.5"]) == 0
    text = capsys.readouterr().out
    for words in ("CFG 3.5", "NAG", "RAM GiB", "resident", "in all ~", "published figures of CPU"):
        assert words in text


def test_a_last_picture_is_found_and_shown(plans, small, capsys):
    code, (plan,), problems = plans("pictures/boat.png", "--last-image", "pictures/house.png")
    assert (code, problems) == (0, [])
    assert plan["last_image"]["path"] == str(Path("pictures/house.png").absolute())
    assert main(["plan", "pictures/boat.png", *small, "--last-image", "pictures/house.png"]) == 0
    assert "last picture" in capsys.readouterr().out
    code, nothing, (problem,) = plans("pictures/boat.png", "--last-image", "pictures/ship.png")
    assert (code, nothing, problem["error"]["code"]) == (2, [], "invalid_image")


def test_the_table_needs_no_picture(capsys):
    assert main(["plan", "--table", "--model", "a14b-fp8", "--recipe", "lightx2v", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 21 and all(cell["peak_gib"] for line in lines for cell in line["cells"])
    assert main(["plan", "--table", "--model", "a14b", "--vram", "24", "--ram", "64"]) == 0
    text = capsys.readouterr().out
    assert "24 GB (RTX 3090)" in text and "80 GB" not in text and "1280×720×120" in text
    assert main(["plan"]) == 2
    assert "Only --table needs none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["pictures/none.png"], 2, "image: got"),
        (["pictures/boat.png", "-l", "0"], 2, "num_frames: got '0'"),
        (["pictures/boat.png", "--cfg", "-1"], 2, "The flag is --cfg-high or --cfg."),
        (["pictures/boat.png", "--fps", "nan"], 2, "fps: got 'nan'"),
        (["pictures/boat.png", "-s", "many"], 2, "The flag is --steps."),
        (["pictures/boat.png", "-s", "0"], 2, "num_inference_steps: got '0'; allowed: a whole number from 1 to 200"),
        (["pictures/boat.png", "--sampler", "ddim"], 2, "sampler: got 'ddim'; allowed: one of lcm, euler, unipc."),
        (["pictures/boat.png", "--stepps", "3"], 2, "--steps"),
        (["pictures/boat.png", "--preset", "firework"], 2, "Did you mean 'fireworks'?"),
        (["pictures/boat.png", "--batch-size", "0"], 2, "batch_size: got 0"),
        (["pictures/boat.png", "--batch-size", "two"], 2, "batch_size: got 'two'"),
        (["pictures", "--job-id", "one"], 2, "one clip per --job-id"),
        (["empty"], 2, "a folder with pictures"),
        (["none.jsonl"], 2, "readable"),
        (["pictures/boat.png", "--model", "nowhere"], 4, "nowhere"),
        (["pictures/boat.png", "--device", "cuda:7"], 10, "cuda:7"),
        ([], 2, "IMAGE"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "generate"])
def test_bad_input_is_one_line_and_an_exit_code(capsys, small, command, arguments, code, says):
    Path("empty").mkdir()
    assert main([command, *small, *arguments]) == code
    said = capsys.readouterr()
    assert says in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert main([command, *small, "--json", *arguments]) == code
    assert says in json.loads(capsys.readouterr().err)["error"]["message"]
    assert not Path("output").exists()


def test_a_bug_is_one_line_too_unless_debugging(capsys, monkeypatch, small):
    def broken(*arguments, **named):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("wan2_i2v.doors.cli.inputs.planned", broken)
    assert main(["plan", "pictures/boat.png"]) == 1
    assert "WAN2_I2V_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("WAN2_I2V_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["plan", "pictures/boat.png"])


def test_generate_inspect_resume(capsys, small):
    code = main(["generate", "pictures/boat.png", *small, "--seed", "5", "-p", "pan left"])
    said = capsys.readouterr()
    video = Path(said.out.strip())
    assert video == Path("output/boat-5.mp4").absolute()
    assert video.is_file()
    record = Record.model_validate_json(Path("output/jobs/boat-5/record.json").read_text())
    assert code == (0 if record.verification.passed else 3)
    assert ("did not pass" in said.err) == (code == 3)
    assert "denoise high (2 steps)" in said.err.splitlines()
    assert re.search(r"48×32, 5 frames at 16 fps \(0\.312 s\), seed 5, \d+ of \d+ checks passed", said.err)

    assert main(["inspect", str(video), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["file"]["frames"] == 5
    assert content["request"]["prompt"] == content["plan"]["prompt"] == "pan left"
    assert main(["inspect", str(video)]) == 0
    text = capsys.readouterr().out
    assert "5 frames at 16 fps" in text
    assert "1.0000 high CFG 1" in text
    assert text.count("passed  ") + text.count("FAILED  ") == len(record.verification.checks)

    assert main(["resume", "boat-5", "--json"]) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["video"] == str(video)
    assert said.err == ""


def test_inspect_refuses_what_is_no_video_of_ours(capsys):
    assert main(["inspect", "pictures/boat.png"]) == 2
    assert main(["inspect", "nowhere.mp4", "--json"]) == 2
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["field"] == "video"


def test_the_model_of_the_settings_is_used_where_none_is_named(monkeypatch, capsys):
    monkeypatch.setenv("WAN2_I2V_MODEL", "nowhere")
    assert main(["plan", "pictures/boat.png"]) == 4
    assert "nowhere" in capsys.readouterr().err


def test_resume_of_an_unknown_job(capsys):
    assert main(["resume", "nothing"]) == 8
    assert "nothing" in capsys.readouterr().err


def test_one_bad_row_is_named_and_the_others_are_made(capsys, small):
    rows = [{"image": "pictures/boat.png", "seed": 1}, {"image": "pictures/boat.png", "sead": 2}, {"image": "no.png"}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"image": "pictures/house.png", "seed": 4}])))
    assert main(["generate", "jobs.jsonl", *small, "--quiet"]) == 2
    said = capsys.readouterr()
    assert [Path(line).name for line in said.out.splitlines()] == ["boat-1.mp4", "house-4.mp4"]
    first, second = said.err.splitlines()[:2]
    assert "jobs.jsonl line 2, sead" in first
    assert "Did you mean 'seed'?" in first
    assert second.startswith("error: jobs.jsonl line 3: image")

    main(["generate", "jobs.jsonl", *small, "--json"])
    said = capsys.readouterr()
    assert [json.loads(line)["job_id"] for line in said.out.splitlines()] == ["boat-1", "house-4"]
    assert [json.loads(line)["error"]["of"] for line in said.err.splitlines()[:2]] == [
        "jobs.jsonl line 2", "jobs.jsonl line 3",
    ]  # fmt: skip


def test_one_output_file_for_two_clips_is_refused(capsys, small):
    assert main(["generate", "pictures", *small, "-o", "clip.mp4", "--seed", "1"]) == 7
    assert "output of both" in capsys.readouterr().err
    assert not Path("output").exists()


def test_doctor_says_what_runs(capsys, checkpoint):
    code = main(["doctor", "--model", str(checkpoint), "--json"])
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert {"python", "torch", "devices", "memory", "disk", "model mini"} <= checks.keys()
    assert checks[f"model {checkpoint}"]["ok"]
    assert "will run on" in checks[f"model {checkpoint}"]["found"]
    assert report["ok"] == (code == 0)


def test_doctor_names_what_is_bad(capsys, tmp_path, monkeypatch):
    Path("taken").write_text("a file")
    monkeypatch.setenv("WAN2_I2V_OUTPUT", "taken")
    (tmp_path / "damaged").mkdir()
    code = main(["doctor", "--model", "damaged"])
    lines = capsys.readouterr().out.splitlines()
    assert code != 0
    assert any(line.startswith("BAD  disk: ") and "taken" in line for line in lines)
    assert any(line.startswith("BAD  model damaged: ") and "model_index.json" in line for line in lines)


def test_version_and_completion(capsys, monkeypatch):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"wan2-i2v \S+\n", capsys.readouterr().out)
    monkeypatch.setenv("_WAN2_I2V_COMPLETE", "source_bash")
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    assert "_WAN2_I2V_COMPLETE=complete_bash" in capsys.readouterr().out


def completed(words: str, monkeypatch, capsys) -> list[str]:
    """What bash offers for the last of `words`."""
    monkeypatch.setenv("_WAN2_I2V_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    return capsys.readouterr().out.split()


def test_completion_knows_commands_flags_choices_and_jobs(capsys, monkeypatch):
    for name in ("boat-1", "house-2"):
        folder = Path("output/jobs", name)
        folder.mkdir(parents=True)
        (folder / "plan.json").touch()
    assert completed("wan2-i2v gen", monkeypatch, capsys) == ["generate"]
    assert completed("wan2-i2v plan --sam", monkeypatch, capsys) == ["--sampler"]
    assert completed("wan2-i2v plan --sampler ", monkeypatch, capsys) == ["lcm", "euler", "unipc"]
    assert completed("wan2-i2v plan --preset st", monkeypatch, capsys) == [
        "static-portrait",
        "static-portrait:verbatim",
    ]
    assert completed("wan2-i2v resume bo", monkeypatch, capsys) == ["boat-1"]


def test_every_command_speaks_json_errors_included(capsys, checkpoint):
    commands = {
        "generate": ["nothing.png"], "plan": ["nothing.png"], "resume": ["nothing"], "inspect": ["nothing.mp4"],
        "verify": ["nothing.mp4"], "analyze": ["nothing.png"], "prompt": ["--subject", "a", "text"],
    }  # fmt: skip
    for command, arguments in commands.items():
        assert main([command, *arguments, "--json"]) in (2, 8), command
        said = capsys.readouterr()
        assert said.out == ""
        assert json.loads(said.err)["error"].keys() >= {"code", "message"}
    assert main(["presets", "--json"]) == main(["prompt", "The boat sails.", "--json"]) == 0
    assert all(map(json.loads, capsys.readouterr().out.splitlines()))
    main(["doctor", "--json"])
    assert "checks" in json.loads(capsys.readouterr().out)


def commands_of(command, path: str = "wan2-i2v"):
    """Every command below `command`, by the words that call it."""
    below = getattr(command, "commands", {})
    for name, one in below.items():
        yield from commands_of(one, f"{path} {name}")
    if not below:
        yield path, command


def test_every_command_has_the_flag_json():
    """A server answers in JSON all the time."""
    silent = [
        path
        for path, command in commands_of(typer.main.get_command(app))
        if not path.endswith(" serve") and not any("--json" in parameter.opts for parameter in command.params)
    ]
    assert silent == []


def test_a_narrow_encoding_of_the_pipe_is_no_crash(monkeypatch, small):
    """A pipe on Windows knows the letters of one code page."""
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", pipe)
    assert main(["plan", "pictures/boat.png", *small, "-p", "σ☃"]) == 0
    assert main(["plan", "pictures/boat.png", *small, "-p", "σ☃", "--json"]) == 0
    pipe.seek(0)
    lines = pipe.read().splitlines()
    assert any(r"\u03c3\u2603" in line for line in lines)
    assert json.loads(lines[-1])["prompt"] == "σ☃"


def test_an_interrupt_before_anything_runs(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("wan2_i2v.doors.cli.inputs.planned", interrupted)
    assert main(["generate", "pictures/boat.png"]) == 130
    assert "error: cancelled." in capsys.readouterr().err
