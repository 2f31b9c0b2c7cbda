"""From what stands on the command line to requests: pictures, folders of pictures and job lists, with shared flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan2_i2v import api, joblist
from wan2_i2v.api import Order
from wan2_i2v.devices import HERE, Machine
from wan2_i2v.doors.cli.options import FLAGS
from wan2_i2v.errors import InvalidRequest, Wan2I2VError, nearest
from wan2_i2v.presets import preset_names, preset_texts
from wan2_i2v.request import GenerateRequest, describe_path
from wan2_i2v.settings import Settings

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
"""What counts as a picture in a folder; a file named by itself may have any name."""


@dataclass(frozen=True)
class Entry:
    """One clip that was asked for: `label` says where, `outcome` is a plan ready to run or why there is none."""

    label: str
    outcome: Order | Wan2I2VError


def planned(
    images: Sequence[str], options: Mapping[str, Any], *, runnable: bool = True, machine: Machine = HERE
) -> list[Entry]:
    """Every clip that pictures, folders and job lists ask for, planned, in order. `runnable`, `machine`: `api.prepare`.

    Raises InvalidRequest for flags that cannot work, InvalidJobList for a list that cannot be read.
    """
    size = _batch_size(options["batch_size"])
    asked: list[tuple[str, GenerateRequest | Wan2I2VError]] = []
    for label, request in _requests(images, _fields(options)):
        if isinstance(request, Wan2I2VError):
            asked.append((label, request))
        else:
            asked += [(label, clip) for clip in _batch(request, size)]
    wanted = [request for _, request in asked if isinstance(request, GenerateRequest)]
    plans = iter(api.prepare(wanted, runnable=runnable, machine=machine))
    return [Entry(label, request if isinstance(request, Wan2I2VError) else next(plans)) for label, request in asked]


def of_flags(options: Mapping[str, Any]) -> GenerateRequest:
    """What the flags ask for, of no picture in particular."""
    return GenerateRequest(**(_fields(options) | {"image": "picture.png"}))


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The request fields that the flags set; a preset fills those that the flags leave out."""
    fields = {name: value for name, value in options.items() if name in GenerateRequest.model_fields}
    given = {name: value for name, value in fields.items() if value is not None and value != []}
    if options["cfg"] is not None:
        given = {"guidance_scale_high": options["cfg"], "guidance_scale_low": options["cfg"]} | given
    return {"model": Settings().model} | _preset(options["preset"]) | given


def _preset(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    prompt, negative, frames = preset_named(name)
    return {"prompt": prompt, "negative_prompt": negative, "num_frames": frames}


def preset_named(name: str) -> tuple[str, str, int]:
    """Prompt, negative prompt and length of a preset.

    Raises InvalidRequest for an unknown name, with the nearest one.
    """
    known = preset_names()
    if name not in known:
        raise InvalidRequest("preset", name, "a name that wan2-i2v presets lists", nearest(name, known))
    return preset_texts(name)


def _batch_size(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidRequest("batch_size", text, "a whole number from 1") from None


def _batch(request: GenerateRequest, size: int) -> tuple[GenerateRequest, ...]:
    if size > 1 and request.seed is None:
        request = request.replaced(seed=api.draw_seed())
    return request.batch(size)


def _requests(images: Sequence[str], fields: dict[str, Any]) -> list[tuple[str, GenerateRequest | Wan2I2VError]]:
    found: list[tuple[str, GenerateRequest | Wan2I2VError]] = []
    for image in images:
        if joblist.is_job_list(image):
            path = describe_path(image)
            found += [(f"{path.name} line {row.line}", row.request) for row in joblist.read(path, fields)]
        else:
            found += [(name, _request(fields | {"image": name})) for name in _pictures(image)]
    if len(found) > 1 and "job_id" in fields:
        raise InvalidRequest("job_id", fields["job_id"], "one clip per --job-id", "Leave it out, or name it per row.")
    return found


def _request(fields: dict[str, Any]) -> GenerateRequest:
    """The request of these flags.

    Raises InvalidRequest that names the flag too, where it is called otherwise than its field.
    """
    try:
        return GenerateRequest(**fields)
    except InvalidRequest as error:
        flags = next((flag.names for flag in FLAGS if flag.field == error.field), ())
        if not flags or f"--{error.field.replace('_', '-')}" in flags:
            raise
        also = " or --cfg" if error.field.startswith("guidance_scale") else ""
        hint = f"{error.hint} The flag is {flags[0]}{also}.".strip()
        raise InvalidRequest(error.field, error.given, error.allowed, hint) from None


def _pictures(image: str) -> list[str]:
    """The picture itself, or all pictures in a folder, by name.

    Raises InvalidRequest for a folder without any.
    """
    folder = describe_path(image)
    if not image or not folder.is_dir():
        return [image]
    names = sorted(str(entry) for entry in folder.iterdir() if _is_picture(entry))
    if not names:
        raise InvalidRequest("image", image, f"a folder with pictures ({', '.join(SUFFIXES)})")
    return names


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
