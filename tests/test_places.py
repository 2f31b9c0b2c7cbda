"""Where videos go, and what is refused before any work."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import pytest

import clips
import plans
from wan2_i2v import places
from wan2_i2v.errors import InvalidRequest, OutputError
from wan2_i2v.media import metadata
from wan2_i2v.media.writer import write_clip
from wan2_i2v.workspace import Workspace, sweep


def test_no_output_means_the_folder_of_the_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(tmp_path / "videos"))
    assert places.final_path(plans.plan(job_id="cat")) == tmp_path / "videos" / "cat.mp4"


@pytest.mark.parametrize(
    ("container", "output", "wanted"),
    [
        ("mp4", "clips", "clips/cat.mp4"),
        ("mp4", "clips/film.mp4", "clips/film.mp4"),
        ("mp4", "clips/FILM.MP4", "clips/FILM.MP4"),
        ("gif", "clips/film.gif", "clips/film.gif"),
        ("png", "clips", "clips/cat-frames"),
        ("webm", "v1.5", "v1.5/cat.webm"),
    ],
)
def test_output_is_a_file_or_a_folder(container, output, wanted, tmp_path):
    plan = plans.plan(job_id="cat", container=container, output=str(tmp_path / output))
    assert places.final_path(plan) == tmp_path / wanted


def test_a_folder_may_be_named_like_a_file(tmp_path):
    (tmp_path / "all.mp4").mkdir()
    assert places.final_path(plans.plan(job_id="cat", output=str(tmp_path / "all.mp4"))) == tmp_path / "all.mp4/cat.mp4"


@pytest.mark.parametrize(("container", "name", "other"), [("mp4", "a.gif", "gif"), ("png", "a.webm", "webm")])
def test_the_suffix_of_another_container_is_refused(container, name, other):
    with pytest.raises(InvalidRequest, match=rf"output: got '{name}'.*--container {other}"):
        places.final_path(plans.plan(container=container, output=name))


def test_home_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.final_path(plans.plan(job_id="cat", output="~/x")) == tmp_path / "x" / "cat.mp4"


def test_a_free_place_is_accepted_and_nothing_is_made(tmp_path):
    places.check_writable(plans.plan(output=str(tmp_path / "new" / "deep")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_an_existing_video_is_refused_unless_told(container, tmp_path):
    plan = plans.plan(output=str(tmp_path), container=container)
    write_clip(places.final_path(plan), clips.moving(3), clips.form(container))
    with pytest.raises(OutputError, match=r"exists\. Say --overwrite"):
        places.check_writable(plan)
    places.check_writable(plan.model_copy(update={"overwrite": True}))


def test_the_very_video_of_the_plan_is_no_obstacle(tmp_path):
    plan = plans.plan(output=str(tmp_path / "out.mp4"))
    write_clip(tmp_path / "clip", clips.moving(3), clips.form("mp4"))
    metadata.embed(tmp_path / "clip", tmp_path / "out.mp4", "mp4", {"plan": plan.content()}, overwrite=False)
    places.check_writable(plan)
    with pytest.raises(OutputError):
        places.check_writable(plan.model_copy(update={"seed": plan.seed + 1}))


def test_a_foreign_sidecar_is_kept(tmp_path):
    plan = plans.plan(output=str(tmp_path / "out.mp4"), overwrite=True)
    sidecar = tmp_path / "out.mp4.json"
    for text in ("my notes", "[]", '{"mine": 1}'):
        sidecar.write_text(text)
        with pytest.raises(OutputError, match=r"out\.mp4\.json exists and is no record"):
            places.check_writable(plan)
    sidecar.write_text(json.dumps({"job_id": "old", "plan": {}}))
    places.check_writable(plan)


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*Not a directory"):
        places.check_writable(plans.plan(output=str(tmp_path / "file" / "deep")))


def test_a_folder_that_takes_no_files():
    with pytest.raises(OutputError, match=r"cannot write /proc/.*Choose another --output"):
        places.check_writable(plans.plan(output="/proc/nowhere/deep"))


@pytest.mark.parametrize("length", [245, 300])
def test_a_name_that_is_too_long(length, tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        places.check_writable(plans.plan(output=str(tmp_path / ("x" * length + ".mp4"))))
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_of_one_output_are_refused(tmp_path):
    one, other = (plans.plan(output=str(tmp_path / "out.mp4"), job_id=name) for name in ("one", "other"))
    with pytest.raises(OutputError, match="both one and other"):
        places.check_writable(one, other)
    with pytest.raises(OutputError, match="both same and same"):
        places.check_writable(*(plans.plan(output=str(tmp_path), job_id="same", seed=seed) for seed in (1, 2)))


def test_a_full_disk_is_found_for_all_jobs_together(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    jobs = [plans.plan(output=str(tmp_path), job_id=f"j{n}", num_frames=81, width=832, height=480) for n in range(8)]
    video = 0.2 * 832 * 480 * 81
    need = 2 * video + 2 * 4 * 36 * 21 * 60 * 104
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 0, int(4 * need)))
    places.check_writable(*jobs[:3])
    with pytest.raises(
        OutputError, match=rf"has {4 * need / 1e6:.1f} MB free; videos and artifacts may need {8 * need / 1e6:.1f} MB"
    ):
        places.check_writable(*jobs)


def test_the_folder_of_the_jobs_must_take_files_too(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"where jobs keep their artifacts: Not a directory.*WAN2_I2V_OUTPUT"):
        places.check_writable(plans.plan(output=str(tmp_path / "videos")))


def test_a_rate_that_gif_cannot_keep_is_found_early(tmp_path):
    with pytest.raises(InvalidRequest, match="fps: got 60"):
        places.check_writable(plans.plan(output=str(tmp_path), container="gif", fps=60))


def test_a_job_is_finished_while_its_video_is_there(tmp_path):
    assert not places.finished(Workspace(tmp_path))


def test_sweeping_removes_only_what_a_killed_writer_left(tmp_path):
    kept = ["clip.mp4", ".clip-1-abcdefgh.mp4", ".clip-abc.mp4", ".clip-abcdefgh.webm", ".lock", ".clip-abcdefgh-old"]
    for name in [*kept, ".clip-abc_3f9z.mp4"]:
        (tmp_path / name).touch()
    sweep(tmp_path / "clip.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_took_a_file_is_believed_for_a_while(tmp_path, monkeypatch):
    made = []
    temporary = places.tempfile.NamedTemporaryFile
    monkeypatch.setattr(
        places.tempfile, "NamedTemporaryFile", lambda **asked: made.append(asked["dir"]) or temporary(**asked)
    )
    moment = [100.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: moment[0])
    folders = places.Folders(0.25)
    for seed in (1, 2):
        places.check_writable(
            plans.plan(job_id=f"j{seed}", output=str(tmp_path)), jobs=tmp_path / "jobs", folders=folders
        )
    assert made == [tmp_path] * 2
    moment[0] += 0.3
    places.check_writable(plans.plan(job_id="j3", output=str(tmp_path)), jobs=tmp_path / "jobs", folders=folders)
    assert made == [tmp_path] * 4
    # A longer name is another question.
    places.check_writable(plans.plan(job_id="j" * 99, output=str(tmp_path)), jobs=tmp_path / "jobs", folders=folders)
    assert made == [tmp_path] * 5
