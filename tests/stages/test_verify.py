"""Verdicts on clips with one fault each: the fault, and nothing else, is named."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
import torch
from PIL import Image

import clips
import plans
from wan2_i2v import places
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip
from wan2_i2v.presets import PROMPT_PRESETS
from wan2_i2v.record import Verification
from wan2_i2v.stages import tensors, verify
from wan2_i2v.stages.base import Context, Job
from wan2_i2v.workspace import Workspace

COUNT = 12
FINITE = {"latents": torch.zeros(1, 16, 4, 8, 12), "position": torch.tensor(3)}


def check(folder, frames, *, prepared=None, latents=FINITE, written=None, **request):
    """Write `frames` and verify them against the plan of `request`."""
    plan = plans.plan(**({"num_frames": COUNT, "fps": 16, "width": 96, "height": 64} | request))
    clip = folder / "clip"
    write_clip(clip, frames, written or places.clip_format(plan))
    return verify.verify_clip(clip, plan, clips.texture(96 + COUNT)[:, :96] if prepared is None else prepared, latents)


def failures(verdict):
    return {failed.name for failed in verdict.failures}


@pytest.mark.parametrize("container", clips.CONTAINERS)
@pytest.mark.parametrize("fps", [16, 24, 23.976])
def test_a_good_clip_passes_everything(container, fps, tmp_path):
    verdict = check(tmp_path, clips.moving(COUNT), container=container, fps=fps)
    assert verdict.passed, verdict.failures
    assert all(seen.message for seen in verdict.checks)


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_a_clip_of_one_frame_passes(container, tmp_path):
    verdict = check(tmp_path, clips.moving(1), container=container, num_frames=1, prepared=next(clips.moving(1)))
    assert verdict.passed, verdict.failures


@pytest.mark.parametrize("container", clips.CONTAINERS)
@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_a_wrong_number_of_frames(container, count, tmp_path):
    frames = list(islice(clips.moving(COUNT + 1), count))
    verdict = check(tmp_path, frames, container=container, prepared=frames[0])
    assert "frame_count" in failures(verdict)
    assert failures(verdict) <= {"frame_count", "duration"}


@pytest.mark.parametrize("container", clips.TIMED)
def test_a_wrong_rate(container, tmp_path):
    written = ClipFormat(container, 96, 64, 20, 18)
    assert failures(check(tmp_path, clips.moving(COUNT), container=container, written=written)) == {"fps", "duration"}


def test_another_size(tmp_path):
    frames = [frame[:48] for frame in clips.moving(COUNT)]
    verdict = check(tmp_path, frames, written=ClipFormat("mp4", 96, 48, 16, 18))
    assert failures(verdict) == {"size"}


def test_another_codec(tmp_path):
    verdict = check(tmp_path, clips.moving(COUNT), container="mp4", written=ClipFormat("webm", 96, 64, 16, 18))
    assert failures(verdict) == {"codec"}
    assert "vp9 yuv420p bt709" in verdict.failures[0].message


@pytest.mark.parametrize("value", [0, 3, 255])
def test_a_black_or_blank_clip(value, tmp_path):
    verdict = check(tmp_path, [np.full((64, 96, 3), value, np.uint8)] * COUNT)
    assert {"motion", "first_frame"} <= failures(verdict)
    assert failures(verdict) & {"black", "blank"}


@pytest.mark.parametrize(("value", "name"), [(0, "black"), (190, "blank")])
def test_one_bad_frame_in_a_good_clip(value, name, tmp_path):
    frames = list(clips.moving(COUNT))
    frames[7] = np.full_like(frames[7], value)
    verdict = check(tmp_path, frames)
    assert failures(verdict) == {name}
    assert verdict.failures[0].spans == ((0.438, 0.5),)


def test_a_dark_picture_may_give_a_dark_clip(tmp_path):
    frames = [(frame // 24).astype(np.uint8) for frame in clips.moving(COUNT)]
    verdict = check(tmp_path, frames, prepared=frames[0], crf=1, container="png")
    assert frames[0].mean() < 10
    assert not {"black", "blank"} & failures(verdict)


@pytest.mark.parametrize("count", [2, 5, COUNT])
def test_a_frozen_clip(count, tmp_path):
    frames = [clips.texture()] * count
    verdict = check(tmp_path, frames, prepared=frames[0], num_frames=count, prompt="a woman dances")
    assert failures(verdict) == {"motion"}
    assert verdict.failures[0].remedy == "stronger-guidance"


def test_a_frozen_clip_with_noise_is_frozen(tmp_path):
    rng, still = np.random.default_rng(0), clips.texture(320, 176).astype(float)
    frames = [np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(COUNT)]
    assert failures(check(tmp_path, frames, prepared=frames[0], width=320, height=176)) == {"motion"}


def test_a_frozen_clip_on_request(tmp_path):
    frames = [clips.texture()] * COUNT
    verdict = check(tmp_path, frames, prepared=frames[0], prompt="A portrait with minimal movement")
    assert verdict.passed
    states = {seen.name: seen.state for seen in verdict.checks}
    assert (states["motion"], states["stillness"]) == ("unchecked", "judged")


def test_a_fade_of_a_still_picture_is_named(tmp_path):
    still = clips.texture()
    frames = [(still * (1 - index / 40)).astype(np.uint8) for index in range(COUNT)]
    assert failures(check(tmp_path, frames, prepared=still)) & {"brightness_drift", "fade_to_black"}


def test_a_slow_zoom_is_no_frozen_clip(tmp_path):
    picture = Image.fromarray(clips.texture(640, 368))
    frames = [
        np.asarray(picture.crop((d, d * 0.575, 640 - d, 368 - d * 0.575)).resize((320, 176), Image.Resampling.BICUBIC))
        for d in (index * 0.8 for index in range(COUNT))
    ]
    assert check(tmp_path, frames, prepared=frames[0], width=320, height=176).passed


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_no_numbers(bad, tmp_path):
    latents = FINITE | {"latents": torch.tensor([0.0, bad, bad])}
    verdict = check(tmp_path, clips.moving(COUNT), latents=latents)
    assert failures(verdict) == {"latents_finite"}
    assert verdict.failures[0].value == 2


def test_a_first_frame_of_another_picture(tmp_path):
    verdict = check(tmp_path, clips.moving(COUNT, seed=1))
    assert failures(verdict) == {"first_frame"}


def test_a_first_frame_that_lost_fine_detail_passes(tmp_path):
    small = [Image.fromarray(frame).resize((24, 16)).resize((96, 64)) for frame in clips.moving(COUNT)]
    assert check(tmp_path, [np.asarray(frame) for frame in small]).passed


def test_a_clip_that_cannot_be_read(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    verdict = verify.verify_clip(path, plans.plan(), clips.texture(), FINITE)
    assert failures(verdict) == {"readable"}
    assert "cannot be read" in verdict.failures[0].message


def test_a_folder_with_a_damaged_frame_cannot_be_read(tmp_path):
    write_clip(tmp_path / "clip", clips.moving(COUNT), clips.form("png"))
    (tmp_path / "clip" / "frame-00005.png").write_bytes(b"no picture")
    plan = plans.plan(num_frames=COUNT, container="png")
    verdict = verify.verify_clip(tmp_path / "clip", plan, clips.texture(), FINITE)
    assert failures(verdict) == {"readable"}
    assert "frame-00005.png" in verdict.failures[0].message


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("The pose is static, with minimal movement", "static"),
        ("She holds still.", "static"),
        ("a motionless statue", "static"),
        ("a motionless statue while the camera orbits it", None),
        ("a still life of apples", "static"),
        ("Minimal motion", "static"),
        ("static camera, a dog runs", "motion"),
        ("a static shot of waves", "motion"),
        ("not static at all", "motion"),
        ("no static background noise", "motion"),
        ("she is still smiling and still dancing", "motion"),
        ("distilled water flows", "motion"),
        ("The camera zooms in on the house.", "motion"),
        ("A beautiful scene with dynamic movement", "motion"),
        ("", "motion"),
    ],
)
def test_what_a_prompt_asks_for(prompt, expected):
    assert verify.expected_of(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        (PROMPT_PRESETS["combat"].verbatim, True),
        (PROMPT_PRESETS["combat"].prompt, True),
        (PROMPT_PRESETS["fireworks"].verbatim, True),
        ("Lightning strikes the tower", True),
        ("the bomb explodes", True),
        ("strobe lights in a club", True),
        ("he holds a flashlight", False),
        ("calm sea, no flash", False),
        ("she fires up the stove", False),
        ("", False),
    ],
)
def test_what_a_prompt_calls_a_flash(prompt, asked, tmp_path):
    clip = [*clips.moving(COUNT)]
    clip[6] = np.full_like(clip[6], 250)
    assert failures(check(tmp_path, clip, prompt=prompt)) == (set() if asked else {"flash"})


def test_the_stage_writes_its_verdict(tmp_path):
    plan = plans.plan(num_frames=COUNT, fps=16, width=96, height=64)
    job = Job(plan, Workspace(tmp_path / "job"))
    job.workspace.create(None, plan)
    frames = list(clips.moving(COUNT))
    Image.fromarray(frames[0]).save(job.workspace.prepared)
    tensors.save(job.workspace.latents, FINITE)
    write_clip(places.clip_path(job.workspace, plan), chain(frames), places.clip_format(plan))
    assert not verify.STAGE.done(job)
    events = []
    verify.STAGE.run(None, job, Context(events.append, lambda: False))
    assert verify.STAGE.done(job)
    verdict = Verification.model_validate_json(job.workspace.verification.read_text())
    assert verdict.passed
    assert len(events) == 1
