"""The field names that clients of the old container and of other services use, as this package's own. Pure.

Comes in: the `input` object of a request. Goes out: `Fields`. Two names of one field with different values, unknown
names and what this version cannot do are InvalidRequest. Imported by the routers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wan2_i2v.errors import InvalidRequest, nearest

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
    "steps": ("num_inference_steps", "sample_steps", "infer_steps"),
    "cfg": ("guidance_scale", "cfg_scale", "sample_guide_scale"),
    "guidance_scale_2": (),
    "shift": ("sample_shift", "flow_shift"),
    "sampler_name": ("sampler", "sample_solver"),
    "scheduler": (),
    "seed": ("noise_seed", "base_seed"),
    "fps": ("frames_per_second", "frame_rate"),
    "crop": (),
    "job_id": (),
}
"""Canonical name → other names of the same field, after the table in docs/http.md."""

IGNORED = frozenset(("notify_uri", "notify_token", "discord_id", "discord_channel", "discord_token"))

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
}
"""Canonical name → field of GenerateRequest, for those that only change their name."""

DEFAULT_FPS = 24.0


@dataclass(frozen=True)
class Fields:
    """`request`: fields of GenerateRequest but for the picture. `image`: a URL, data URI, base64 text or file name."""

    request: dict[str, Any]
    image: str
    job_id: str | None


def translate(given: Mapping[str, Any]) -> Fields:
    """See the module. Raises InvalidRequest."""
    values, said = _canonical(given)
    image = values.pop("input_image", None)
    if not isinstance(image, str) or not image:
        raise InvalidRequest("input_image", image, "an http(s) URL, a data URI, base64 or a file name in input/")
    request = {OWN[name]: value for name, value in values.items() if name in OWN}
    request |= _guidance(values) | _seed(values) | _size(values) | _frames(values, said)
    return Fields(request, image, values.get("job_id"))


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


def _seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """On this door 0 and -1 mean random, as in the old container."""
    seed = values.get("seed")
    return {} if seed in (None, 0, -1, "0", "-1", "") else {"seed": seed}


def _size(values: Mapping[str, Any]) -> dict[str, Any]:
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
