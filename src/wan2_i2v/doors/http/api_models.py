"""What our own API takes and gives, as models: they check requests, and OpenAPI describes them. Imported by its routers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from wan2_i2v.doors.http.views import PLACES
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.jobs.shelf import ID
from wan2_i2v.jobs.state import State
from wan2_i2v.request import MAX_SEED, GenerateRequest

JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
SETTINGS_EXAMPLE = {"prompt": "The boat rocks on the waves.", "num_frames": 72, "fps": 24, "seed": 7}
PICTURE_EXAMPLE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

PictureId = Annotated[str, Field(pattern=f"^{ID}$", examples=[PICTURE_EXAMPLE])]
JobId = Annotated[str, Path(pattern=JOB_ID, description="The id of a job")]


class _Strict(GenerateRequest):
    """A number is a number: what stands for one in a file of rows or on a command line does not in JSON."""

    model_config = ConfigDict(strict=True)


def settings_schema() -> dict[str, Any]:
    """JSON Schema of what a client may set: the request's fields without names and places."""
    schema = GenerateRequest.model_json_schema()
    properties = {name: value for name, value in schema["properties"].items() if name not in PLACES}
    # What a free text must look like to be a colour stands in no schema language.
    properties["background"]["examples"] = ["#ffffff", "black"]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "examples": [SETTINGS_EXAMPLE],
    }


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings`, when a request can have them. Raises InvalidRequest, naming the field."""
    checked: dict[str, Any] = {"image": "picture"}
    for name, value in settings.items():
        if name in PLACES:
            hint = "Upload it and give its id as last_picture." if name == "last_image" else "Leave it out."
            raise InvalidRequest(name, value, "nothing: the server decides names and places", hint)
        checked[name] = tuple(value) if isinstance(value, list) else value
    _Strict(**checked)
    return settings


RequestSettings = Annotated[dict[str, Any], AfterValidator(check_settings), WithJsonSchema(settings_schema())]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SessionBody(_Body):
    token: str = Field(max_length=4096)


class PlanBody(_Body):
    """A picture that was uploaded, and what to make of it. `last_picture`: one that the clip ends with."""

    picture: PictureId
    last_picture: PictureId | None = None
    settings: RequestSettings = {}


class JobBody(PlanBody):
    """As for a plan. `job_id` (or the header Idempotency-Key) makes a second submission of the same harmless."""

    job_id: Annotated[str, Field(pattern=JOB_ID)] | None = None
    priority: int = Field(0, ge=-1000, le=1000, description="Higher goes first")
    webhook: str | None = Field(None, max_length=4096, description="URL that is told when the job ends")


class AgainBody(_Body):
    """Another seed for the same picture and settings; a random one when none is given."""

    seed: int | None = Field(None, ge=0, le=MAX_SEED)


def _no_boolean(value: object) -> object:
    """`value`, unless it is a truth value: `True` equals 1 in Python, so that it would be one of the numbers."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number from 1 to 5, not true or false")
    return value


class RatingBody(_Body):
    """How much a video is liked: 1 is bad, 5 is very good."""

    rating: Annotated[Literal[1, 2, 3, 4, 5], BeforeValidator(_no_boolean)]


class PictureReply(BaseModel):
    picture: PictureId
    width: int
    height: int
    facts: dict[str, Any]
    warnings: list[str]


class JobError(BaseModel):
    code: str
    message: str


class JobReply(BaseModel):
    """A job. Times in seconds since 1970; `fraction` is of the whole job, `done` of `total` of its stage."""

    id: str
    state: State
    created_at: float
    started_at: float | None
    finished_at: float | None
    priority: int
    attempts: int
    position: int | None
    stage: str | None
    done: int | None
    total: int | None
    fraction: float
    eta_seconds: float | None
    picture: PictureId
    last_picture: PictureId | None
    settings: dict[str, Any]
    plan: dict[str, Any]
    error: JobError | None
    verification: list[dict[str, Any]] | None
    rating: int | None
    links: dict[str, str]


class JobsReply(BaseModel):
    """Newest first. `next` is the `before` of the following page, null at the end."""

    jobs: list[JobReply]
    next: str | None


class DeviceReply(BaseModel):
    name: str
    label: str
    kind: Literal["cpu", "cuda"]
    total_bytes: int | None
    ram_bytes: int


class InfoReply(BaseModel):
    version: str
    model: str
    device: DeviceReply
    limits: dict[str, int]
    needs_token: bool


class Preset(BaseModel):
    name: str
    title: str
    prompt: str
    negative_prompt: str
    settings: dict[str, Any]
    about: str


class PresetsReply(BaseModel):
    presets: list[Preset]


class Model(BaseModel):
    """`serving`: this server's jobs use it. `missing`: files that are not here."""

    name: str
    present: bool
    serving: bool
    licence: str
    about: str
    sizes: list[tuple[int, int]]
    default_recipe: str
    missing: list[str]


class ModelsReply(BaseModel):
    models: list[Model]


class HealthReply(BaseModel):
    status: Literal["ok"]
