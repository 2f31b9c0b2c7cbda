"""The fields of `/v1/videos`, OpenAI's own and those that vLLM-Omni and SGLang add, as this package's own. Pure.

Comes in: a JSON object, or a form's pairs (all text; `name[part]` and `name[]` as the `openai` package writes objects and
lists). Goes out: `Asked`. What this version cannot do is InvalidRequest; what only tunes another server is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wan2_i2v.doors.http import fields, loras
from wan2_i2v.errors import InvalidRequest, nearest

SAME = (
    *("prompt", "negative_prompt", "width", "height", "num_frames", "fps", "num_inference_steps", "flow_shift"),
    *("boundary_ratio", "guidance_scale_high", "guidance_scale_low", "sampler", "scheduler", "recipe", "crop"),
    *("nag", "nag_scale", "nag_tau", "nag_alpha", "background", "container", "crf"),
    *("allow_speech", "best_of", "retries", "time_budget"),
)
"""Fields with the names of GenerateRequest."""

LORAS = {"lora": "loras", "loras": "loras", "loras_high": "loras_high", "loras_low": "loras_low"}
"""Where LoRAs are named, and the field of GenerateRequest that each is."""

OTHERS = ("seconds", "size", "seed", "guidance_scale", "guidance_scale_2", "extra_params", "extra_body", *LORAS)

IMAGES = ("input_reference", "input_references", "image_reference", "reference_url", "image_url")
"""Where clients put the picture; one of them."""

LAST_IMAGES = ("last_image", "end_image")
"""Where the picture is named that the clip ends with: fields of this server's own."""

IGNORED = frozenset(
    (
        *("model", "user", "metadata", "task_type", "generator_device", "max_sequence_length", "return_stage_metrics"),
        *("output_quality", "output_compression", "x264_preset", "perf_dump_path", "profile", "num_profiled_timesteps"),
        *(
            "profile_all_stages",
            "enable_teacache",
            "enable_cache_dit",
            "cache_dit_params",
            "attention_backend_override",
        ),
        *("cfg_gate_step", "skip_softmax_params", "diffusers_kwargs", "frame_interpolation_exp"),
        *("frame_interpolation_scale", "frame_interpolation_model_path", "upscaling_model_path", "upscaling_scale"),
    )
)
"""What names a client or tunes another server's speed: it does not change what is asked for."""

ONLY: dict[str, tuple[str, ...]] = {
    "n": ("1",),
    "num_outputs_per_prompt": ("1",),
    "quality": ("high", "auto"),
    "true_cfg_scale": ("1", "1.0"),
    **dict.fromkeys(
        ("enable_frame_interpolation", "enable_upscaling", "enhance_prompt", "generate_sound"), ("false", "0")
    ),
    **dict.fromkeys(
        (
            *("control_reference", "control_type", "video_reference", "video_url", "video_path"),
            *("audio_reference", "source_video", "source_audio", "video_noise_mask", "audio_noise_mask"),
            *("sound_duration", "start_time_seconds", "aspect_ratio", "short_edge", "output_path"),
        ),
        (),
    ),
}
"""What these servers can do and this one cannot: the values that ask for nothing special."""

KNOWN = frozenset((*SAME, *OTHERS, *IMAGES, *LAST_IMAGES, *IGNORED, *ONLY))

NEGATIVE_SEED = -1


@dataclass(frozen=True)
class Asked:
    """`request`: fields of GenerateRequest but for the pictures. `image`, `last_image`: as `images.from_text` takes them,
    when named."""

    request: dict[str, Any]
    image: str | None
    last_image: str | None = None


def translate(given: Mapping[str, Any]) -> Asked:
    """See the module; uploaded files are not among `given`. Raises InvalidRequest."""
    values = _flat({name: value for name, value in given.items() if value is not None})
    for name, value in values.items():
        if name not in KNOWN:
            raise InvalidRequest(name, value, "a known field", nearest(name, KNOWN))
        if name in ONLY and _plain(value) not in ("", "[]", "{}", *ONLY[name]):
            allowed = " or ".join(ONLY[name]) or "nothing"
            raise InvalidRequest(name, value, f"{allowed}: this server does not do more", "Leave it out.")
    request = {name: values[name] for name in SAME if name in values and (values[name] != "" or "prompt" in name)}
    request = _guidance(values) | request | _size(values) | _frames(values)
    request |= _loras(values)
    request |= fields.seed_of(_seed(values.get("seed")), (NEGATIVE_SEED,))
    return Asked(request, _image(values, IMAGES), _image(values, LAST_IMAGES))


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A form's pairs as an object: `a[b]` is a part of `a`, `a[]` and a repeated name are lists."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        match = re.fullmatch(r"([^\[\]]+)\[([^\[\]]*)\]", name)
        if match is None:
            result[name] = value if name not in result else [*_listed(result[name]), value]
        elif match[2] == "":
            result[match[1]] = [*_listed(result.get(match[1], [])), value]
        else:
            part = result.setdefault(match[1], {})
            if not isinstance(part, dict):
                raise InvalidRequest(name, value, f"one way of writing {match[1]}")
            part[match[2]] = value
    return result


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The values with those of `extra_params` and `extra_body` among them; a field may not be in two places."""
    flat = {name: value for name, value in values.items() if name not in ("extra_params", "extra_body")}
    for holder in ("extra_params", "extra_body"):
        for name, value in _object(holder, values.get(holder)).items():
            if name in flat and flat[name] != value:
                raise InvalidRequest(name, value, f"what {name} beside {holder} says ({flat[name]!r})", "Give one.")
            flat[name] = value
    return flat


def _object(name: str, value: Any) -> dict[str, Any]:
    """A JSON object, or text that is one."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidRequest(name, value, "a JSON object") from None
    if not isinstance(value, dict):
        raise InvalidRequest(name, value, "a JSON object")
    return value


def _guidance(values: Mapping[str, Any]) -> dict[str, Any]:
    """`guidance_scale` is for both experts, `guidance_scale_2` for the low-noise one, as diffusers and SGLang mean it."""
    scales: dict[str, Any] = {}
    if values.get("guidance_scale", "") != "":
        scales = dict.fromkeys(("guidance_scale_high", "guidance_scale_low"), values["guidance_scale"])
    if values.get("guidance_scale_2", "") != "":
        scales["guidance_scale_low"] = values["guidance_scale_2"]
    return scales


def _size(values: Mapping[str, Any]) -> dict[str, Any]:
    return fields.size_of(values) if values.get("size", "") not in ("", "auto") else {}


def _frames(values: Mapping[str, Any]) -> dict[str, Any]:
    """`seconds` × `fps`; a number of frames beside it is more exact and decides, as on the other servers."""
    seconds = values.get("seconds", "")
    if seconds == "" or values.get("num_frames", "") != "":
        return {}
    try:
        return {"num_frames": round(float(seconds) * float(values.get("fps", "") or fields.DEFAULT_FPS))}
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest("seconds", seconds, "a number of seconds") from None


def _loras(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, target in LORAS.items():
        for side, texts in loras.translate(name, values.get(name), target).items():
            found[side] = (*found.get(side, ()), *texts)
    return found


def _seed(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) != 1:
            raise InvalidRequest("seed", value, "one seed", "Send one request per video.")
        return value[0]
    return value


def _image(values: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The one picture that is named under one of `names`. Raises InvalidRequest for two."""
    named = {name: _picture(name, values[name]) for name in names if values.get(name) not in (None, "", [], {})}
    if len(named) > 1:
        raise InvalidRequest(" and ".join(named), "both", "one picture", f"Give it in {next(iter(named))} only.")
    return next(iter(named.values()), None)


def _picture(name: str, value: Any) -> str:
    """The text that names a picture, out of a list of one, an object with `image_url`, or such an object as JSON text."""
    if isinstance(value, list):
        if len(value) != 1:
            raise InvalidRequest(name, value, "one picture", "This model starts from a single picture.")
        value = value[0]
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return _picture(name, json.loads(value))
        except ValueError:
            raise InvalidRequest(name, value, "a picture, or JSON with image_url") from None
    if isinstance(value, dict):
        value = value.get("image_url") or value.get("url")
        if isinstance(value, dict):
            value = value.get("url")
    if not isinstance(value, str) or not value:
        raise InvalidRequest(name, value, "an uploaded file, or image_url with an http(s) URL or a data URI")
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else json.dumps(value)
