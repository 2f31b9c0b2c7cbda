"""The preprocess stage: the planned picture, and no other, becomes prepared.png."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plans
from wan2_i2v.errors import InvalidImage
from wan2_i2v.events import Event, Progress
from wan2_i2v.pictures import read_facts
from wan2_i2v.stages import preprocess
from wan2_i2v.stages.base import Context, Job
from wan2_i2v.workspace import Workspace


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    image = Image.new("RGBA", (96, 64), (0, 0, 0, 0))
    image.paste((10, 200, 30, 255), (0, 0, 48, 64))
    image.save(path, icc_profile=b"no profile")
    return path


def job_of(picture: Path, **request) -> Job:
    plan = plans.plan(image=read_facts(picture), width=96, height=64, **request)
    job = Job(plan, Workspace(picture.parent / "job"))
    job.workspace.create(None, plan)
    return job


def run(job: Job) -> list[Event]:
    events: list[Event] = []
    stage = preprocess.STAGE
    with stage.model(job.plan) as model:
        stage.run(model, job, Context(events.append, lambda: False))
    return events


def test_the_picture_is_prepared_as_planned(picture):
    job = job_of(picture, background="#112233")
    assert not preprocess.STAGE.done(job)
    assert run(job) == [Progress(job.plan.job_id, "preprocess", 1, 1)]
    assert preprocess.STAGE.done(job)
    with Image.open(job.workspace.prepared) as prepared:
        assert (prepared.format, prepared.mode, prepared.size) == ("PNG", "RGB", (96, 64))
        assert "transparency" not in prepared.info and "icc_profile" not in prepared.info
        assert prepared.getpixel((5, 5)) == (10, 200, 30)
        assert prepared.getpixel((90, 5)) == (0x11, 0x22, 0x33)


def test_the_same_bytes_every_time(picture):
    job = job_of(picture)
    run(job)
    first = job.workspace.prepared.read_bytes()
    run(job)
    assert job.workspace.prepared.read_bytes() == first


def test_a_changed_picture_is_refused_and_nothing_is_left(picture):
    job = job_of(picture)
    Image.new("RGB", (96, 64), "red").save(picture)
    with pytest.raises(InvalidImage, match=r"very file that was planned.*plan the job again"):
        run(job)
    assert sorted(path.name for path in job.workspace.root.iterdir()) == ["plan.json"]


def test_a_picture_that_is_gone_is_refused(picture):
    job = job_of(picture)
    picture.unlink()
    with pytest.raises(InvalidImage, match="existing file"):
        run(job)


def test_once_prepared_the_picture_itself_is_not_needed(picture):
    job = job_of(picture)
    run(job)
    picture.unlink()
    assert preprocess.STAGE.done(job)


def test_the_plan_finds_the_picture_from_any_folder(picture, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    job = job_of(Path("picture.png"))
    job = dataclasses.replace(job, workspace=Workspace(job.workspace.root.absolute()))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(job)
    with Image.open(job.workspace.prepared) as prepared:
        assert np.asarray(prepared).shape == (64, 96, 3)


def test_all_jobs_share_one_group(picture):
    assert preprocess.STAGE.shares(job_of(picture).plan) == preprocess.STAGE.shares(plans.plan(seed=9))
