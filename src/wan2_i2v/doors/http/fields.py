"""The field names that clients of the old container and of other services use, as this package's own. Pure.

Comes in: the `input` object of a request. Goes out: `Fields`. Two names of one field with different values, unknown
names and what this version cannot do are InvalidRequest. Imported by the routers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wan2_i2v import geometry
from wan2_i2v.doors.http import loras
from wan2_i2v.errors import InvalidRequest, nearest

PLAIN = (
    *("recipe", "boundary_ratio", "nag", "nag_scale", "nag_tau", "nag_alpha"),
    *("background", "container", "crf", "allow_speech", "best_of", "retries", "time_budget"),
)
"""Fields of GenerateRequest that have no other name."""

ALIASES: dict[str, tuple[str, ...]] = {
    "input_image": (
        *("image", "image_url", "image_path", "image_base64", "start_image", "first_frame"),
        *("reference_image_url", "reference_image_base64", "reference_image_path"),
    ),
    "positive_prompt": ("prompt", "text"),
    "negative_prompt": ("neg_prompt", "negative"),
    "length": ("num_frames", "frames", "frame_num", "video_length"),
    "duration": ("duration_seconds", "seconds"),
    "width": (),
    "height": (),
    "size": (),
    "resolution": ("res",),
    "steps": ("num_inference_steps", "sample_steps", "infer_steps"),
    "cfg": ("guidance_scale", "cfg_scale", "sample_guide_scale", "guidance"),
    "guidance_scale_high": (),
    "guidance_scale_2": ("guidance_scale_low",),
    "shift": ("sample_shift", "flow_shift"),
    "sampler_name": ("sampler", "sample_solver"),
    "scheduler": (),
    "seed": ("noise_seed", "base_seed"),
    "fps": ("frames_per_second", "frame_rate"),
    "crop": (),
    "batch_size": (),
    "job_id": (),
    "webhook": (),
    "return_video": ("return_base64",),
    "end_image": ("last_image", "end_image_url", "end_image_path", "end_image_base64"),
    "lora_pairs": ("loras", "lora"),
    "loras_high": ("high_noise_loras",),
    "loras_low": ("low_noise_loras",),
    **dict.fromkeys(PLAIN, ()),
}
"""Canonical name → other names of the same field, after the table in docs/http.md."""

IGNORED = frozenset(
    (
        *("notify_uri", "notify_token", "discord_id", "discord_channel", "discord_token"),
        *("enable_prompt_optimization", "enable_safety_checker"),
    )
)
"""Taken without a word: the old container's, and what only the hosted service has."""

AREAS = {"480p": 832 * 480, "720p": 1280 * 720}
"""Pixels of a frame by `resolution`; the aspect is the picture's."""

CANONICAL = {alias: name for name, others in ALIASES.items() for alias in (name, *others)}

OWN = {
    "positive_prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "length": "num_frames",
    "width": "width",
    "height": "height",
    "steps": "num_inference_steps",
    "shift": "flow_shift",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "fps": "fps",
    "crop": "crop",
    "guidance_scale_high": "guidance_scale_high",
    **dict(zip(PLAIN, PLAIN, strict=True)),
}
"""Canonical name → field of GenerateRequest, for those that only change their name."""

DEFAULT_FPS = 24.0


@dataclass(frozen=True)
class Fields:
    """`request`: fields of GenerateRequest but for the pictures. `image`, `last_image`: a URL, data URI, base64 text or
    file name.

    `area`: pixels of a frame, when the size follows from it and the picture's aspect.
    """

    request: dict[str, Any]
    image: str
    job_id: str | None
    webhook: str | None = None
    return_video: bool = False
    area: int | None = None
    last_image: str | None = None


def translate(given: Mapping[str, Any]) -> Fields:
    """See the module. Raises InvalidRequest."""
    values, said = _canonical(given)
    image = _named_picture("input_image", values.pop("input_image", None))
    last = values.pop("end_image", None)
    _refuse_batches(values)
    request = _guidance(values) | {OWN[name]: value for name, value in values.items() if name in OWN}
    request |= seed_of(values.get("seed"), (0, -1)) | size_of(values) | _frames(values, said) | _loras(values, said)
    return Fields(
        request,
        image,
        _text("job_id", values),
        _text("webhook", values),
        _flag("return_video", values, said),
        _area(values, said),
        _named_picture("end_image", last) if last else None,
    )


def size_of_area(area: int, picture: tuple[int, int]) -> dict[str, int]:
    """Width and height of about `area` pixels in the aspect of a picture (width, height)."""
    aspect = picture[0] / picture[1]
    return {"width": geometry.snap((area * aspect) ** 0.5), "height": geometry.snap((area / aspect) ** 0.5)}


def seed_of(seed: Any, random: tuple[int, ...]) -> dict[str, Any]:
    """The seed, unless it is one of the numbers that mean a random one (null and "" always do)."""
    return {} if seed is None or str(seed).strip() in ("", *map(str, random)) else {"seed": seed}


def _named_picture(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(field, value, "an http(s) URL, a data URI, base64 or a file name in input/")
    return value


def _refuse_batches(values: Mapping[str, Any]) -> None:
    size = values.get("batch_size", 1)
    if str(size) != "1":
        raise InvalidRequest("batch_size", size, "1 over HTTP", "Send one request per video, each with its seed.")


def _loras(values: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, Any]:
    """`lora_pairs` has a file for each expert, or one for both; the other two fields are of one expert."""
    found: dict[str, Any] = {}
    for name, target in (("lora_pairs", "loras"), ("loras_high", "loras_high"), ("loras_low", "loras_low")):
        if name in values:
            for side, texts in loras.translate(said[name], values[name], target).items():
                found[side] = (*found.get(side, ()), *texts)
    return found


def _text(name: str, values: Mapping[str, Any]) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(name, value, "text")
    return value or None


def _flag(name: str, values: Mapping[str, Any], said: Mapping[str, str]) -> bool:
    value = str(values.get(name, False)).lower()
    if value not in ("true", "false", "1", "0"):
        raise InvalidRequest(said[name], values[name], "true or false")
    return value in ("true", "1")


def _area(values: Mapping[str, Any], said: Mapping[str, str]) -> int | None:
    if "resolution" not in values:
        return None
    name, value = said["resolution"], values["resolution"]
    if str(value).lower() not in AREAS:
        raise InvalidRequest(name, value, " or ".join(AREAS), "For other sizes give width and height.")
    if values.keys() & {"size", "width", "height"}:
        raise InvalidRequest(name, value, "no width, height or size beside it", "Give one of them.")
    return AREAS[str(value).lower()]


def _canonical(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every value under its field's first name, and the name that was used; a null is as good as absent."""
    values: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in given.items():
        if name in IGNORED or value is None:
            continue
        if name not in CANONICAL:
            raise InvalidRequest(str(name), value, "a known field", nearest(str(name), CANONICAL))
        field = CANONICAL[name]
        if field in values and values[field] != value:
            raise InvalidRequest(
                name, value, f"the value of {said[field]} ({values[field]!r}): both name {field}", "Give one of them."
            )
        values[field], said[field] = value, name
    return values, said


def _guidance(values: Mapping[str, Any]) -> dict[str, Any]:
    """`cfg` is for both experts, `guidance_scale_2` for the low-noise one."""
    scales: dict[str, Any] = {}
    if "cfg" in values:
        scales = {"guidance_scale_high": values["cfg"], "guidance_scale_low": values["cfg"]}
    if "guidance_scale_2" in values:
        scales["guidance_scale_low"] = values["guidance_scale_2"]
    return scales


def size_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """`size` is "W*H" or "WxH"."""
    if "size" not in values:
        return {}
    match = re.fullmatch(r"\s*(\d{1,5})\s*[*x×]\s*(\d{1,5})\s*", str(values["size"]), re.IGNORECASE)
    if match is None:
        raise InvalidRequest("size", values["size"], 'width and height such as "832*480" or "832x480"')
    width, height = (int(part) for part in match.groups())
    for name, side in (("width", width), ("height", height)):
        if str(values.get(name, side)) != str(side):
            raise InvalidRequest("size", values["size"], f"what {name} ({values[name]!r}) says", "Give one of them.")
    return {"width": width, "height": height}


def _frames(values: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, Any]:
    """`duration` × fps, rounded to whole frames; a `length` beside it has to agree."""
    if "duration" not in values:
        return {}
    try:
        frames = round(float(values["duration"]) * float(values.get("fps", DEFAULT_FPS)))
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest(said["duration"], values["duration"], "a number of seconds") from None
    if str(values.get("length", frames)) != str(frames):
        agreed = f"what {said['length']} ({values['length']!r}) says"
        raise InvalidRequest(said["duration"], values["duration"], agreed, "Give one of them.")
    return {"num_frames": frames}
