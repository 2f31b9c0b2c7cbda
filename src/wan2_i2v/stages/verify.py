"""Reopen the clip and look at it: is it what the plan says, and does it look right?

Comes in: the clip, the prepared picture and the latents of a job. Goes out: `verification.json`. The file is checked
here, what its frames show in `eye.clip`. A failed check is a verdict, not an error: nothing is raised for it here. Needs
no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wan2_i2v import places
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.eye.clip import Expected, examine
from wan2_i2v.eye.first import first_frame_check
from wan2_i2v.media import reader
from wan2_i2v.media.reader import Frame, VideoFacts
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Check, Verification
from wan2_i2v.request import Container
from wan2_i2v.stages import tensors
from wan2_i2v.stages.base import Context, Job, Stage, no_model, one_step
from wan2_i2v.workspace import save_json

CODECS: dict[Container, str] = {
    "mp4": "h264 yuv420p bt709",
    "webm": "vp9 yuv420p bt709",
    "gif": "gif",
    "webp": "webp",
    "png": "png",
}
COMFYUI_CODEC = "h264 yuv420p bt601"
"""What ComfyUI makes, tagged as what it is: players show it as it was meant."""
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


CAMERA = re.compile(
    r"\b(camera|shot|view) (slowly |gently |smoothly )?(pans?|tilts?|zooms?|moves?|orbits?|tracks?|flies|pushes|pulls|circles)\b"
    r"|\b(zoom(s|ing)? (in|out)|pan(s|ning)? (left|right|across)|dolly|push-in|fly-?through)\b",
    re.IGNORECASE,
)


FLASHES = re.compile(
    r"(?<!no )(?<!without )(?<!without any )\b("
    r"flash(es|ing)?(?![- ]?(light|back))|lightning|strob(e|es|ing)|explo(de|des|ding|sions?)|detonat(es|ing|ions?)"
    r"|gunfire|gunshots?|(weapons?|guns?|rifles?|cannons?) (firing|fires?)|fireworks?"
    r")\b",
    re.IGNORECASE,
)
"""What a prompt calls light that comes and goes at once."""


def expected_of(prompt: str) -> Expected | None:
    """Whether a prompt asks for a clip in which (almost) nothing moves, or for motion.

    None where it asks for a subject that stands still before a camera that moves: either can be said of such a clip.
    A static camera is no wish for stillness.
    """
    if STILLNESS.search(prompt) is None:
        return "motion"
    return None if CAMERA.search(prompt) else "static"


@dataclass
class _Frames:
    """The frames of a clip, counted, the last one kept; `problem` says why they broke off."""

    clip: Path
    count: int = 0
    last: Frame | None = None
    problem: str = ""

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in reader.frames(self.clip):
                self.count += 1
                self.last = frame
                yield frame
        except InvalidRequest as error:
            self.problem = str(error)


LATENTS_ELSEWHERE = Check(
    name="latents_finite",
    passed=True,
    value=None,
    limit=0,
    message="the latents stayed with ComfyUI and were not looked at",
    state="unchecked",
)


def verify_clip(
    clip: Path, plan: JobPlan, prepared: Frame, latents: dict[str, torch.Tensor] | None, last: Frame | None = None
) -> Verification:
    """Check a finished clip against its plan, the pictures that it starts from and ends with, and its latents.

    `prepared` and `last` are the pictures as the model saw them, height × width × 3, RGB, uint8. `latents` None: another
    program had them.
    """
    checks = [_check_latents(latents) if latents is not None else LATENTS_ELSEWHERE]
    frames = _Frames(clip)
    try:
        facts = reader.probe(clip)
    except InvalidRequest as error:
        return Verification(checks=(*checks, _unreadable(str(error))))
    seen = examine(
        frames,
        plan.fps,
        prepared,
        expected_of(plan.prompt),
        allow_speech=plan.allow_speech,
        allow_flashes=FLASHES.search(plan.prompt) is not None,
    )
    if frames.problem:
        return Verification(checks=(*checks, _unreadable(frames.problem)))
    ending = [] if last is None else [_check_last(frames.last, last)]
    return Verification(checks=(*checks, *_check_file(facts, frames.count, plan), *seen, *ending))


def _unreadable(problem: str) -> Check:
    return _check("readable", False, "no", "yes", problem)


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
    if plan.comfyui is not None and codec == COMFYUI_CODEC:
        known = COMFYUI_CODEC
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
    colours = {(1, 1, 1, False): "bt709", (6, 1, 1, False): "bt601"}.get(tags, "other colours")
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


def _check_last(frame: Frame | None, picture: Frame) -> Check:
    """The last frame against the picture that the clip shall end with, as the first one against its own."""
    check = first_frame_check(frame, picture)
    message = check.message.replace("first frame", "last frame")
    return check.model_copy(update={"name": "last_frame", "message": message})


def _run(model: None, job: Job, context: Context) -> None:
    prepared = _picture(job.workspace.prepared)
    last = None if job.plan.last_image is None else _picture(job.workspace.prepared_last)
    clip = places.clip_path(job.workspace, job.plan)
    latents = tensors.load(job.workspace.latents) if job.plan.comfyui is None else None
    verdict = verify_clip(clip, job.plan, prepared, latents, last)
    save_json(job.workspace.verification, verdict)
    context.progress(job, STAGE.name, 1, 1)


def _picture(path: Path) -> Frame:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def _done(job: Job) -> bool:
    return job.workspace.verification.exists() or places.finished(job.workspace)


STAGE = Stage(name="verify", run=_run, done=_done, steps=one_step, model=no_model, shares=lambda plan: "verify")
