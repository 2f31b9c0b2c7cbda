"""What the user asked, sparse and frozen: `GenerateRequest`. A leaf without torch.

Comes in from every door (flags, JSON, form, environment); goes to `plan.py`, which resolves what is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from wan2_i2v.acceleration import AskedAttention
from wan2_i2v.errors import InvalidRequest, nearest
from wan2_i2v.presets import DEFAULT_PROMPT

Crop = Literal["center", "top", "bottom", "auto"]
Container = Literal["mp4", "webm", "gif", "webp", "png"]
BackendName = Literal["local", "comfyui", "ray"]
RecipeName = Literal["rapid", "lightx2v", "three-phase", "official"]
Sampler = Literal["lcm", "euler", "unipc"]
Scheduler = Literal["beta", "simple", "normal", "linear"]

MIN_SIDE = 16
MAX_SIDE = 4096
MAX_FRAMES = 1025
MAX_STEPS = 200
MAX_SEED = 2**63 - 1

ALLOWED = {
    "background": "a colour such as white or #ffffff",
    "device": "auto, cpu, cuda or cuda:N",
    "comfyui_url": "an address such as http://127.0.0.1:8188, without user and password",
}
"""What is allowed, for fields where pydantic's own words would not help."""

OTHER_NAMES = {
    "input_image": "image", "positive_prompt": "prompt", "text": "prompt", "length": "num_frames",
    "frames": "num_frames", "steps": "num_inference_steps", "cfg": "guidance_scale_high", "shift": "flow_shift",
    "boundary": "boundary_ratio", "sampler_name": "sampler", "format": "container",
}  # fmt: skip
"""What fields are called by the command line's flags and by the old container, where no spelling leads there."""

Scale = Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)]
Loras = tuple[Annotated[str, Field(min_length=1)], ...]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]


class GenerateRequest(BaseModel):
    """One clip to make. None means "choose for me"; the plan says what was chosen.

    Raises InvalidRequest, which names the field, the value given and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    image: str = Field(min_length=1, description="Path of the picture that becomes frame 0")
    last_image: str | None = Field(None, min_length=1, description="Path of the picture that the clip ends with")
    prompt: str = Field(
        DEFAULT_PROMPT, max_length=20_000, description="What shall happen, in sentences; empty: the model decides"
    )
    negative_prompt: str = Field("", max_length=20_000, description="What shall not happen")
    allow_speech: bool = Field(False, description="Mouths may move: no mouth words in the negative, no mouth check")
    width: Side | None = Field(None, description="Pixels; snapped to a multiple of 16")
    height: Side | None = Field(None, description="Pixels; snapped to a multiple of 16")
    num_frames: int = Field(72, ge=1, le=MAX_FRAMES, description="Frames in the file, exactly")
    fps: float = Field(24, gt=0, le=240, allow_inf_nan=False, description="Frames per second of the file")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Default: drawn at random and recorded")
    model: str = Field(
        "mini",
        min_length=1,
        description="mini, a14b, a14b-fp8, a14b-gguf (:Q8_0 …), rapid-aio or a row of your own (wan2-i2v models list); a "
        "folder in diffusers layout, or an all-in-one file",
    )
    loras: Loras = Field((), description="LoRA, FILE[:strength]; the expert by its name, else both")
    loras_high: Loras = Field((), description="LoRA of the high-noise expert, FILE[:strength]")
    loras_low: Loras = Field((), description="LoRA of the low-noise expert, FILE[:strength]")
    recipe: RecipeName | None = Field(None, description="Default: the model's own")
    sampler: Sampler | None = Field(None, description="Default: the recipe's")
    scheduler: Scheduler | None = Field(None, description="Default: the recipe's")
    flow_shift: float | None = Field(None, ge=0.01, le=100, allow_inf_nan=False, description="Default: the recipe's")
    num_inference_steps: int | None = Field(None, ge=1, le=MAX_STEPS, description="Default: the recipe's")
    boundary_ratio: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="σ from which the high-noise expert works; default 0.900"
    )
    guidance_scale_high: Scale | None = Field(None, description="CFG of the high-noise expert; 1 is off")
    guidance_scale_low: Scale | None = Field(None, description="CFG of the low-noise expert; 1 is off")
    nag: bool = Field(True, description="NAG: the negative prompt acts in steps without CFG")
    nag_scale: float = Field(11.0, ge=1, le=50, allow_inf_nan=False, description="NAG: how strongly it pushes away")
    nag_tau: float = Field(2.5, ge=1, le=50, allow_inf_nan=False, description="NAG: limit of the features' growth")
    nag_alpha: float = Field(0.25, ge=0, le=1, allow_inf_nan=False, description="NAG: share of the guided features")
    best_of: int = Field(
        1, ge=1, le=32, description="Clips to make, with seeds s, s+1, …; the best is kept as the result"
    )
    retries: int = Field(
        0, ge=0, le=16, description="How often a clip that fails its checks is made again, with the remedy they name"
    )
    time_budget: float | None = Field(
        None, gt=0, le=1e7, allow_inf_nan=False, description="Seconds; no further attempt is begun that would not fit"
    )
    crop: Crop = Field(
        "center", description="What to keep when the picture's aspect differs; auto: faces, else the subject"
    )
    background: str = Field("#ffffff", description="Colour under transparent pixels")
    container: Container = Field("mp4", description="mp4 (H.264), webm (VP9), gif, webp (animated), png (folder)")
    crf: int | None = Field(None, ge=0, le=63, description="Quality, lower is better; default 18 (H.264), 30 (VP9)")
    attention: AskedAttention = Field("auto", description="Attention kernels; auto is torch's own (sdpa)")
    compile: bool = Field(False, description="Let torch compile the blocks' parts: a slow start, then faster steps")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    backend: BackendName | None = Field(
        None,
        description="What makes the video: this machine, a ComfyUI server, or a Ray cluster; default: WAN2_I2V_BACKEND, else local",
    )
    comfyui_url: str | None = Field(
        None,
        pattern=r"^https?://[^/@\s?#]+(/[^@\s?#]*)?$",
        description="The ComfyUI server; default: WAN2_I2V_COMFYUI_URL, else http://127.0.0.1:8188",
    )
    output: str | None = Field(None, description="File or folder; default: the output folder of the settings")
    job_id: str | None = Field(None, description="Default: <picture>-<seed>")
    overwrite: bool = Field(False, description="Replace an existing video of this name")

    def __init__(self, **data: Any) -> None:
        """Validate; pydantic's error becomes an InvalidRequest."""
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise first_problem(error, type(self)) from None

    @field_validator("loras", "loras_high", "loras_low", mode="before")
    @classmethod
    def _one_lora(cls, value: Any) -> Any:
        """A cell of a table names one LoRA, or none."""
        return ((value,) if value else ()) if isinstance(value, str) else value

    @field_validator("background")
    @classmethod
    def _colour(cls, value: str) -> str:
        from PIL import ImageColor

        ImageColor.getrgb(value)
        return value

    @field_validator("job_id")
    @classmethod
    def _safe_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value):
            raise ValueError("letters, digits, '.', '_' and '-', starting with a letter or digit, at most 128")
        return value

    @field_validator("image", "last_image", "output")
    @classmethod
    def _no_nul(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("a path without NUL characters")
        return value

    def replaced(self, **changes: Any) -> GenerateRequest:
        """A validated copy with some fields changed."""
        return GenerateRequest(**(self.model_dump() | changes))

    @property
    def nag_acts(self) -> bool:
        """At scale 1 or alpha 0, NAG's formula leaves the prompt's features as they are."""
        return self.nag and self.nag_scale > 1 and self.nag_alpha > 0

    def batch(self, size: int) -> tuple[GenerateRequest, ...]:
        """`size` requests with seeds s, s+1, …; the seed must be set when `size` > 1."""
        if size < 1:
            raise InvalidRequest("batch_size", size, "a whole number from 1")
        if size == 1:
            return (self,)
        if self.seed is None:
            raise InvalidRequest("seed", None, "a number when batch_size is above 1")
        name = self.job_id
        return tuple(self.replaced(seed=self.seed + i, job_id=f"{name}-{i + 1}" if name else None) for i in range(size))


def check_known(names: Mapping[str, Any], cls: type[BaseModel] = GenerateRequest) -> None:
    """Raise InvalidRequest for the first key of `names` that is no field of `cls`, suggesting the nearest."""
    for name in names:
        if name not in cls.model_fields:
            raise InvalidRequest(str(name), names[name], "a known field", _meant(str(name), cls))


def _meant(name: str, cls: type[BaseModel]) -> str:
    """A sentence that names the field which an unknown `name` most likely stands for."""
    known = OTHER_NAMES.get(name)
    return f"Did you mean {known!r}?" if known in cls.model_fields else nearest(name, cls.model_fields)


def first_problem(error: ValidationError, cls: type[BaseModel]) -> InvalidRequest:
    """The first problem of a pydantic error, in this package's words."""
    problem = error.errors(include_url=False)[0]
    # The place in a list is no part of a field's name.
    field = ".".join(part for part in problem["loc"] if isinstance(part, str)) or cls.__name__
    given = problem.get("input")
    if problem["type"] == "extra_forbidden":
        return InvalidRequest(field, given, "a known field", _meant(field, cls))
    if problem["type"] == "missing":
        return InvalidRequest(field, None, "a value; this field is required")
    return InvalidRequest(field, given, _allowed(field, cls, problem))


def _allowed(field: str, cls: type[BaseModel], problem: Any) -> str:
    info = cls.model_fields.get(field)
    if info is not None:
        for option in (info.annotation, *get_args(info.annotation)):
            values = get_args(option)
            if values and all(isinstance(value, str) for value in values):
                return "one of " + ", ".join(values)
    if field in ALLOWED:
        return ALLOWED[field]
    limits = _limits(field, cls)
    if limits:
        return limits
    message = str(problem["msg"]).replace("String should have", "text of")
    for prefix in ("Value error, ", "Input should be "):
        message = message.removeprefix(prefix)
    return message


def _limits(field: str, cls: type[BaseModel]) -> str:
    """The range of a numeric field, from its JSON schema; empty for other fields."""
    schema = cls.model_json_schema()["properties"].get(field, {})
    for option in schema.get("anyOf", [schema]):
        kind = {"integer": "a whole number", "number": "a number"}.get(option.get("type"))
        if kind and "maximum" in option:
            low = f"from {option['minimum']}" if "minimum" in option else f"above {option['exclusiveMinimum']}"
            return f"{kind} {low} to {option['maximum']}"
    return ""


def describe_path(path: str) -> Path:
    """A user's path with ~ expanded, where it stands for a home; nothing is resolved or opened."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        # A file whose name begins with ~.
        return Path(path)


def is_guided(scale: float) -> bool:
    """Whether a guidance scale makes the model evaluate the negative prompt: anything but exactly 1."""
    return not math.isclose(scale, 1.0)
