"""The last stage: the record in the video, the video at its place, after crashes and failures too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import clips
import plans
from wan2_i2v import places
from wan2_i2v.errors import NumericalError, OutputError
from wan2_i2v.events import ignore
from wan2_i2v.media import metadata, reader
from wan2_i2v.media.writer import write_clip
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest
from wan2_i2v.stages import finish, tensors, verify
from wan2_i2v.stages.base import Context, Job
from wan2_i2v.workspace import Workspace

CONTEXT = Context(ignore, lambda: False)
COUNT = 5


def verified(root: Path, output: Path | str, **fields) -> Job:
    """A job that is through all stages but the last."""
    asked = {"num_frames": COUNT, "width": 96, "height": 64, "fps": 16, "output": str(output), "job_id": "cat"} | fields
    plan = plans.plan(**asked)
    job = Job(plan, Workspace(root))
    job.workspace.create(GenerateRequest(image="/home/me/cat.png", prompt="a test", **asked), plan)
    frames = list(clips.moving(COUNT))
    Image.fromarray(frames[0]).save(job.workspace.prepared)
    tensors.save(job.workspace.latents, {"latents": torch.zeros(1, 16, 2, 8, 12)})
    write_clip(places.clip_path(job.workspace, plan), frames, places.clip_format(plan))
    verify.STAGE.run(None, job, CONTEXT)
    return job


def finished(job: Job) -> Record:
    finish.STAGE.run(None, job, CONTEXT)
    return finish.close(job, None, {"finish": 0.5})


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_the_video_is_at_its_place_with_everything_in_it(container, tmp_path):
    job = verified(tmp_path / "job", tmp_path / "videos" / "deep", container=container)
    assert not finish.STAGE.done(job)
    record = finished(job)
    video = places.final_path(job.plan)
    assert (record.status, record.video, record.error) == ("done", str(video), None)
    assert reader.probe(video).frames == COUNT
    inside = metadata.read(video)
    assert inside["plan"] == job.plan.content()
    assert inside["request"] == {"prompt": "a test", "num_frames": 5, "width": 96, "height": 64, "fps": 16} | (
        {"container": container} if container != "mp4" else {}
    )
    assert inside["verification"] == record.verification.model_dump(mode="json")
    assert record.verification.passed
    assert finish.STAGE.done(job)


def test_record_and_sidecar_say_how_it_was_made(tmp_path):
    job = verified(tmp_path / "job", tmp_path / "film.mp4")
    record = finished(job)
    assert job.workspace.load_record() == record
    assert Record.model_validate_json((tmp_path / "film.mp4.json").read_text()) == record
    assert record.seconds == {"finish": 0.5}
    assert {"python", "torch", "diffusers", "transformers", "av"} <= record.versions.keys()
    assert not places.clip_path(job.workspace, job.plan).exists()


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_the_same_request_gives_the_same_bytes_anywhere(container, tmp_path):
    found = []
    for name in ("one", "other"):
        job = verified(tmp_path / name / "job", tmp_path / name, container=container, job_id=name)
        clip = clips.digest(places.clip_path(job.workspace, job.plan))
        finished(job)
        video = places.final_path(job.plan)
        found.append({"clip": clip} | fields(metadata.read(video)) | {"whole file": clips.digest(video)})
    assert differing(*found) == {}, "what differs, of the first and of the other"


def fields(content: Any, path: str = "metadata") -> dict[str, Any]:
    """Every value of nested data by its path."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if inside is None:
        return {path: content}
    return {name: value for key, one in inside for name, value in fields(one, f"{path}.{key}").items()}


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)}


def test_what_differs_is_named():
    one, other = (
        {"plan": {"seed": seed, "steps": [{"sigma": 1.0}, {"sigma": sigma}]}} for seed, sigma in ((1, 0.5), (1, 0.25))
    )
    assert differing(fields(one), fields(other)) == {"metadata.plan.steps.1.sigma": (0.5, 0.25)}


def test_no_name_or_place_is_in_the_video(tmp_path):
    job = verified(tmp_path / "job", tmp_path / "film.mp4", job_id="secret-name")
    finished(job)
    text = json.dumps(metadata.read(tmp_path / "film.mp4"))
    assert not any(word in text for word in ("/home/me", str(tmp_path), "secret-name", "film.mp4"))


def test_a_job_without_a_stored_request(tmp_path):
    job = verified(tmp_path / "job", tmp_path)
    job.workspace.request.unlink()
    finished(job)
    assert metadata.read(places.final_path(job.plan))["request"] == {}


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_a_crash_before_the_record_is_made_good(container, tmp_path):
    job = verified(tmp_path / "job", tmp_path / "out", container=container)
    finish.STAGE.run(None, job, CONTEXT)
    before = clips.digest(places.final_path(job.plan))
    assert not finish.STAGE.done(job)
    places.check_writable(job.plan)
    assert finished(job).status == "done"
    assert clips.digest(places.final_path(job.plan)) == before


def test_closing_again_changes_nothing(tmp_path):
    job = verified(tmp_path / "job", tmp_path)
    record = finished(job)
    before = job.workspace.record.stat().st_mtime_ns
    assert finish.close(job, None, {}) == record
    assert job.workspace.record.stat().st_mtime_ns == before


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_the_video_of_another_job_is_kept(container, tmp_path):
    first = verified(tmp_path / "first", tmp_path / "out", container=container)
    finished(first)
    video = places.final_path(first.plan)
    before = clips.digest(video)
    other = verified(tmp_path / "other", tmp_path / "out", container=container, seed=99)
    with pytest.raises(OutputError, match="--overwrite"):
        finish.STAGE.run(None, other, CONTEXT)
    assert clips.digest(video) == before
    told = verified(tmp_path / "told", tmp_path / "out", container=container, seed=99, overwrite=True)
    assert finished(told).status == "done"
    assert metadata.read(video)["plan"]["seed"] == 99


def test_a_foreign_sidecar_is_kept(tmp_path):
    (tmp_path / "film.mp4.json").write_text("my notes")
    job = verified(tmp_path / "job", tmp_path / "film.mp4")
    with pytest.raises(OutputError, match="no record"):
        finish.STAGE.run(None, job, CONTEXT)
    assert (tmp_path / "film.mp4.json").read_text() == "my notes"
    assert not (tmp_path / "film.mp4").exists()


def test_a_failed_job_has_a_record_and_can_be_run_again(tmp_path):
    job = verified(tmp_path / "job", tmp_path / "film.mp4")
    failure = finish.close(job, NumericalError("step 2 gave NaN"), {"denoise": 3.0})
    assert (failure.status, failure.video) == ("failed", None)
    assert failure.error == {"code": "numerical_error", "message": "step 2 gave NaN"}
    assert job.workspace.load_record() == failure
    assert not finish.STAGE.done(job)
    record = finished(job)
    assert (record.status, record.error, record.seconds) == ("done", None, {"denoise": 3.0, "finish": 0.5})


def test_a_job_that_failed_before_verification(tmp_path):
    plan = plans.plan(output=str(tmp_path))
    job = Job(plan, Workspace(tmp_path / "job"))
    job.workspace.create(None, plan)
    record = finish.close(job, NumericalError("no"), {})
    assert (record.status, record.verification) == ("failed", None)


def test_a_video_that_was_taken_away_is_not_done(tmp_path):
    job = verified(tmp_path / "job", tmp_path / "film.mp4")
    finished(job)
    (tmp_path / "film.mp4").unlink()
    assert not finish.STAGE.done(job)
    again = verified(tmp_path / "job", tmp_path / "film.mp4")
    assert finished(again).status == "done"


def test_a_record_that_cannot_be_written_is_reported(tmp_path):
    job = verified(tmp_path / "job", tmp_path / "film.mp4")
    finish.STAGE.run(None, job, CONTEXT)
    job.workspace.record.mkdir()
    (job.workspace.record / "in the way").touch()
    record = finish.close(job, None, {})
    assert record.status == "failed"
    assert "writing the record of cat" in record.error["message"]
