"""Reopen the clip and look at it: is it what the plan says, and is something to be seen?

Comes in: the clip, the prepared picture and the latents of a job. Goes out: `verification.json`. A failed check is a
verdict, not an error: nothing is raised for it here. Needs no model.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wan2_i2v import places
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media import measure, reader
from wan2_i2v.media.measure import ClipMeasures, Look, Motion
from wan2_i2v.media.reader import Frame, VideoFacts
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Check, Verification
from wan2_i2v.request import Container
from wan2_i2v.stages import tensors
from wan2_i2v.stages.base import Context, Job, Stage, no_model, one_step
from wan2_i2v.workspace import save_json

# Measured on synthetic clips (docs/verification.md), mean and peak flow: frozen, at default quality, 0.003 and 0.041;
# a spot of a tenth of the picture that sways by 1 % of its height 0.013 and 0.159; the slowest zoom 0.08 and 0.18.
# The blurred luma of a fade changes by 5 and more, that of noise by 0.9.
LEAST_FLOW_MEAN = 0.06
LEAST_FLOW_PEAK = 0.12
LEAST_CHANGE = 2.0
LEAST_STEP = 0.25
"""Two frames whose mean luma difference is below this are the same frame twice; decides clips too short for flow."""

LEAST_BRIGHTNESS = 10.0
LEAST_CONTRAST = 4.0
DARKER_THAN_PICTURE = 0.5
"""A dark or flat picture makes a dark or flat clip: no limit is above this share of the picture's own value."""

# Measured on four photographs (docs/verification.md): another picture gives at most 0.26 and 10.9 dB; the picture
# without its fine detail (eight times smaller and back), as a small VAE may give it, at least 0.52 and 18.9 dB.
LEAST_SSIM = 0.4
LEAST_PSNR = 15.0

CODECS: dict[Container, str] = {
    "mp4": "h264 yuv420p bt709",
    "webm": "vp9 yuv420p bt709",
    "gif": "gif",
    "webp": "webp",
    "png": "png",
}
TICKS: dict[Container, float] = {"mp4": 0.001, "webm": 0.001, "gif": 0.01, "webp": 0.001}
"""Seconds; what a container counts time in. First and last frame may be off by one each."""

STILLNESS = re.compile(
    r"(?<!not )(?<!no )(?<!non-)\b("
    r"static(?! (camera|shot|background|frame|framing|view))|motionless|frozen|unmoving|immobile"
    r"|(perfectly|completely|absolutely|totally) still|(stands?|sits?|holds?|stays?|remains?|keeps?) (very )?still"
    r"|still (pose|image|picture|photo|photograph|life)"
    r"|(no|minimal|barely any|hardly any|without|very little) (movement|motion)"
    r")\b",
    re.IGNORECASE,
)


def asks_for_stillness(prompt: str) -> bool:
    """Whether a prompt asks for a clip in which (almost) nothing moves. A static camera is no such wish."""
    return STILLNESS.search(prompt) is not None


def verify_clip(clip: Path, plan: JobPlan, prepared: Frame, latents: dict[str, torch.Tensor]) -> Verification:
    """Check a finished clip against its plan, the picture that it starts from and the latents it was decoded from.

    `prepared` is the picture as the model saw it, height × width × 3, RGB, uint8.
    """
    checks = [_check_latents(latents)]
    try:
        facts = reader.probe(clip)
        seen = measure.measure(reader.frames(clip))
    except InvalidRequest as error:
        return Verification(checks=(*checks, _check("readable", False, "no", "yes", str(error))))
    checks += [
        *_check_file(facts, seen.frames, plan),
        _check_brightness(seen, measure.look(prepared)),
        _check_motion(seen.motion, asks_for_stillness(plan.prompt)),
        *_check_first_frame(seen.first, prepared),
    ]
    return Verification(checks=tuple(checks))


def _check(name: str, passed: bool, value: float | str, limit: float | str, message: str) -> Check:
    """A check with its numbers rounded, so that a record reads well."""
    value, limit = (round(number, 3) if isinstance(number, float) else number for number in (value, limit))
    return Check(name=name, passed=passed, value=value, limit=limit, message=message)


def _check_latents(latents: dict[str, torch.Tensor]) -> Check:
    bad = sum(int((~torch.isfinite(tensor)).sum()) for tensor in latents.values() if tensor.is_floating_point())
    message = f"{bad} values of the latents are NaN or infinite" if bad else "all latents are finite numbers"
    return _check("latents_finite", not bad, bad, 0, message)


def _check_file(facts: VideoFacts, decoded: int, plan: JobPlan) -> list[Check]:
    """Frame count, size, codec and, where the container has a clock, rate and duration; a still picture has none."""
    size, wanted = f"{facts.width}x{facts.height}", f"{plan.width}x{plan.height}"
    codec, known = _codec(facts), CODECS[plan.container]
    count = f"{decoded} frames were decoded, {facts.frames} are in the file, the plan has {plan.num_frames}"
    right = decoded == facts.frames == plan.num_frames
    checks = [
        _check("frame_count", right, decoded, plan.num_frames, count),
        _check("size", size == wanted, size, wanted, f"the picture is {size}, the plan has {wanted}"),
        _check("codec", codec == known, codec, known, f"the stream is {codec}, {plan.container} wants {known}"),
    ]
    if plan.container in TICKS and (plan.num_frames > 1 or plan.container in ("mp4", "webm")):
        checks += _check_clock(facts, plan)
    return checks


def _codec(facts: VideoFacts) -> str:
    if not facts.pix_fmt.startswith("yuv"):
        return facts.codec
    tags = (facts.matrix, facts.primaries, facts.transfer, facts.full_range)
    colours = "bt709" if tags == (1, 1, 1, False) else "other colours"
    return f"{facts.codec} {facts.pix_fmt} {colours}"


def _check_clock(facts: VideoFacts, plan: JobPlan) -> list[Check]:
    rate = float(places.clip_format(plan).rate)
    duration = plan.num_frames / rate
    slack = 2 * TICKS[plan.container]
    fps, seconds = facts.fps or 0.0, facts.duration_s or 0.0
    fps_slack = rate * (0.0001 + slack / duration)
    timing = f"the clip lasts {seconds:.3f} s, the plan has {duration:.3f} s"
    return [
        _check("fps", abs(fps - rate) <= fps_slack, fps, rate, f"{fps:.3f} frames per second, the plan has {rate:.3f}"),
        _check("duration", abs(seconds - duration) <= slack, seconds, duration, timing),
    ]


def _check_brightness(seen: ClipMeasures, picture: Look) -> Check:
    """No frame black or of one colour, unless the picture is (nearly) so itself."""
    brightness = min(LEAST_BRIGHTNESS, DARKER_THAN_PICTURE * picture.mean)
    contrast = min(LEAST_CONTRAST, DARKER_THAN_PICTURE * picture.std)
    dark, flat = seen.darkest < brightness, seen.flattest < contrast
    value = f"brightness {seen.darkest:.1f}, contrast {seen.flattest:.1f}"
    limit = f"brightness {brightness:.1f}, contrast {contrast:.1f}"
    trouble = " and ".join(word for word, wrong in (("black", dark), ("blank", flat)) if wrong)
    message = f"a frame is {trouble}: {value}" if trouble else "no frame is black or blank"
    return _check("not_black", not trouble, value, limit, message)


def _check_motion(motion: Motion | None, stillness: bool) -> Check:
    if motion is None:
        return _check("motion", True, 0.0, 0.0, "one frame: nothing can move")
    if motion.flow is None:
        frozen, value, limit = motion.step < LEAST_STEP, motion.step, LEAST_STEP
        measured = f"neighbouring frames differ by at most {value:.2f} of 255"
    else:
        mean, peak, change = motion.flow
        frozen = mean < LEAST_FLOW_MEAN and peak < LEAST_FLOW_PEAK and change < LEAST_CHANGE
        value, limit = mean, LEAST_FLOW_MEAN
        measured = f"in {measure.LAG} frames things move by {mean:.3f} % of the diagonal (up to {peak:.3f} %)"
    if not frozen:
        return _check("motion", True, value, limit, f"the clip moves: {measured}")
    wish = ", as the prompt asks" if stillness else ", and the prompt does not ask for stillness"
    return _check("motion", stillness, value, limit, f"the clip is frozen{wish}: {measured}")


def _check_first_frame(first: Frame, prepared: Frame) -> list[Check]:
    if first.shape != prepared.shape:
        sizes = (
            f"the first frame is {first.shape[1]}x{first.shape[0]}, the picture {prepared.shape[1]}x{prepared.shape[0]}"
        )
        return [_check("first_frame", False, "other size", "same size", f"{sizes}: not comparable")]
    ssim, psnr = measure.ssim(first, prepared), measure.psnr(first, prepared)
    return [
        _check(
            "first_frame_ssim", ssim >= LEAST_SSIM, ssim, LEAST_SSIM, _likeness(ssim >= LEAST_SSIM, f"SSIM {ssim:.3f}")
        ),
        _check(
            "first_frame_psnr", psnr >= LEAST_PSNR, psnr, LEAST_PSNR, _likeness(psnr >= LEAST_PSNR, f"{psnr:.1f} dB")
        ),
    ]


def _likeness(passed: bool, value: str) -> str:
    return f"the first frame {'is' if passed else 'is not'} the prepared picture ({value})"


def _run(model: None, job: Job, context: Context) -> None:
    with Image.open(job.workspace.prepared) as picture:
        prepared = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    clip = places.clip_path(job.workspace, job.plan)
    verdict = verify_clip(clip, job.plan, prepared, tensors.load(job.workspace.latents))
    save_json(job.workspace.verification, verdict)
    context.progress(job, STAGE.name, 1, 1)


def _done(job: Job) -> bool:
    return job.workspace.verification.exists() or places.finished(job.workspace)


STAGE = Stage(name="verify", run=_run, done=_done, steps=one_step, model=no_model, shares=lambda plan: "verify")
