"""Verdicts on clips with one fault each: the fault, and nothing else, is named."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import clips
import plans
from wan2_i2v import places
from wan2_i2v.media import measure
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip
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
    assert failures(verdict) == {"size", "first_frame"}


def test_another_codec(tmp_path):
    verdict = check(tmp_path, clips.moving(COUNT), container="mp4", written=ClipFormat("webm", 96, 64, 16, 18))
    assert failures(verdict) == {"codec"}
    assert "vp9 yuv420p bt709" in verdict.failures[0].message


@pytest.mark.parametrize("value", [0, 3, 255])
def test_a_black_or_blank_clip(value, tmp_path):
    verdict = check(tmp_path, [np.full((64, 96, 3), value, np.uint8)] * COUNT)
    assert {"not_black", "motion", "first_frame_psnr"} <= failures(verdict)


@pytest.mark.parametrize(("value", "word"), [(0, "black and blank"), (200, "blank")])
def test_one_bad_frame_in_a_good_clip(value, word, tmp_path):
    frames = list(clips.moving(COUNT))
    frames[7] = np.full_like(frames[7], value)
    verdict = check(tmp_path, frames)
    assert failures(verdict) == {"not_black"}
    assert f"a frame is {word}" in verdict.failures[0].message


def test_a_dark_picture_may_give_a_dark_clip(tmp_path):
    frames = [(frame // 24).astype(np.uint8) for frame in clips.moving(COUNT)]
    verdict = check(tmp_path, frames, prepared=frames[0], crf=1, container="png")
    assert frames[0].mean() < 10
    assert "not_black" not in failures(verdict)


@pytest.mark.parametrize("count", [2, 5, COUNT])
def test_a_frozen_clip(count, tmp_path):
    frames = [clips.texture()] * count
    verdict = check(tmp_path, frames, prepared=frames[0], num_frames=count, prompt="a woman dances")
    assert failures(verdict) == {"motion"}
    assert "the prompt does not ask for stillness" in verdict.failures[0].message


def test_a_frozen_clip_with_noise_is_frozen(tmp_path):
    rng, still = np.random.default_rng(0), clips.texture(320, 176).astype(float)
    frames = [np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(COUNT)]
    assert failures(check(tmp_path, frames, prepared=frames[0], width=320, height=176)) == {"motion"}


def test_a_frozen_clip_on_request(tmp_path):
    frames = [clips.texture()] * COUNT
    verdict = check(tmp_path, frames, prepared=frames[0], prompt="A portrait with minimal movement")
    assert verdict.passed
    (motion,) = [seen for seen in verdict.checks if seen.name == "motion"]
    assert motion.message.startswith("the clip is frozen, as the prompt asks")


def test_a_fade_is_no_frozen_clip(tmp_path):
    still = clips.texture()
    frames = [(still * (1 - index / 40)).astype(np.uint8) for index in range(COUNT)]
    assert check(tmp_path, frames, prepared=still).passed


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
    assert failures(verdict) == {"first_frame_ssim", "first_frame_psnr"}


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
    ("prompt", "still"),
    [
        ("The pose is static, with minimal movement", True),
        ("She holds still.", True),
        ("a motionless statue", True),
        ("a still life of apples", True),
        ("Minimal motion", True),
        ("static camera, a dog runs", False),
        ("a static shot of waves", False),
        ("not static at all", False),
        ("no static background noise", False),
        ("she is still smiling and still dancing", False),
        ("distilled water flows", False),
        ("A beautiful scene with dynamic movement", False),
        ("", False),
    ],
)
def test_who_asks_for_stillness(prompt, still):
    assert verify.asks_for_stillness(prompt) is still


@given(st.integers(0, 255), st.integers(0, 255))
def test_ssim_and_psnr_of_flat_pictures(a, b):
    one, other = (np.full((32, 32, 3), value, np.uint8) for value in (a, b))
    assert measure.ssim(one, other) == pytest.approx(measure.ssim(other, one))
    assert measure.psnr(one, other) == measure.psnr(other, one)
    assert (measure.psnr(one, other) == 100) == (a == b)


def test_ssim_is_that_of_scikit_image():
    from skimage.metrics import structural_similarity

    one, other = clips.texture(128, 96), clips.texture(128, 96, seed=3) // 2 + clips.texture(128, 96) // 2
    luma = [np.asarray(Image.fromarray(frame).convert("L")) for frame in (one, other)]
    theirs = structural_similarity(*luma, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert measure.ssim(one, other) == pytest.approx(theirs, abs=0.02)


def test_measuring_is_the_same_whatever_the_threads():
    import cv2

    frames = list(clips.moving(COUNT, 320, 176))
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(measure.measure(iter(frames)).motion)
        assert found[0] == found[1]
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)


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
