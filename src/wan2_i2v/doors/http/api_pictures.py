"""Pictures and plans of our own API: upload one, look at it, and see what a job would do with it."""

from __future__ import annotations

import dataclasses
import io
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from wan2_i2v import pictures
from wan2_i2v.doors.http import api_models, images
from wan2_i2v.doors.http.door import Door, client, door
from wan2_i2v.doors.http.errors import NoPicture, NotFound, documented
from wan2_i2v.errors import InvalidImage, InvalidRequest
from wan2_i2v.eye import opening
from wan2_i2v.jobs.service import Submission
from wan2_i2v.jobs.shelf import ID
from wan2_i2v.plan import ImageFacts, JobPlan
from wan2_i2v.prompting import tokens
from wan2_i2v.prompting.lint import lint

router = APIRouter(tags=["pictures"])

SERIOUS = frozenset(("empty", "not-evaluated", "contradiction", "too-long"))
"""Rules whose findings change what comes out; the others are advice."""
PREVIEW_QUALITY = 85
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}

TheDoor = Annotated[Door, Depends(door)]
PictureName = Annotated[str, PathParameter(pattern=f"^{ID}$")]

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"picture": {"type": "string", "format": "binary"}},
                    "required": ["picture"],
                }
            },
        },
    }
}


@router.post("/api/pictures", status_code=201, responses=documented(415, 507), openapi_extra=UPLOAD)
async def upload(request: Request, door: TheDoor) -> api_models.PictureReply:
    """Keep a picture: the body is the file, or the form field `picture`. The same bytes give the same id."""
    data = images.within_limits(await _uploaded(request), door.settings)
    return await run_in_threadpool(_kept, door, data)


async def _uploaded(request: Request) -> bytes:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get("picture")
        if file is None or isinstance(file, str):
            raise InvalidRequest("picture", file, "a file in the form field picture")
        return await file.read()


def _kept(door: Door, data: bytes) -> api_models.PictureReply:
    shelf = door.service.shelf
    try:
        picture = shelf.put(data)
    except InvalidImage as error:
        if error.allowed == pictures.READABLE:
            raise NoPicture(f"this is no picture. {error.hint}".strip()) from None
        raise
    facts = shelf.facts(picture)
    told = facts.model_dump(mode="json", exclude={"path"})
    return api_models.PictureReply(
        picture=picture, width=facts.width, height=facts.height, facts=told, warnings=_warnings(facts)
    )


def _warnings(facts: ImageFacts) -> list[str]:
    told = [
        (facts.has_alpha, "transparent pixels are put on the background colour"),
        (facts.animated_frames > 1, f"animated picture: the first of {facts.animated_frames} frames is used"),
    ]
    return [text for wanted, text in told if wanted]


@router.get(
    "/api/pictures/{picture}",
    responses={**documented(404), 200: {"content": {"image/jpeg": {}, "image/png": {}}}},
    response_class=Response,
)
def preview(picture: PictureName, door: TheDoor, side: Annotated[int, Query(ge=16, le=2048)] = 512) -> Response:
    """A kept picture at no more than `side` pixels: JPEG, or PNG where pixels are transparent."""
    try:
        path = door.service.shelf.path(picture)
    except InvalidImage:
        raise NotFound(f"no picture {picture}; upload it.") from None
    content, media_type = _preview(path, side)
    return Response(content, media_type=media_type, headers=FOREVER)


@lru_cache(maxsize=64)
def _preview(path: Path, side: int) -> tuple[bytes, str]:
    image = opening.opened(path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    if image.has_transparency_data:
        image.convert("RGBA").save(data, "PNG")
        return data.getvalue(), "image/png"
    pictures.flatten(image, "white").save(data, "JPEG", quality=PREVIEW_QUALITY)
    return data.getvalue(), "image/jpeg"


@router.post("/api/plan", responses=documented(507))
def plan(body: api_models.PlanBody, door: TheDoor, client: Annotated[str, Depends(client)]) -> dict[str, Any]:
    """What a job would do: every number of it, memory, warnings, hints for the prompts. Nothing is run."""
    made = door.service.plan(Submission(body.settings, body.picture, client=client, last_picture=body.last_picture))
    told = made.model_dump(mode="json")
    return told | {"duration": made.duration_s, "hints": _hints(made)}


def _hints(made: JobPlan) -> list[dict[str, Any]]:
    found = lint(
        made.prompt,
        made.negative_prompt,
        allow_speech=made.allow_speech,
        negative_evaluated=made.uses_negative_prompt,
        count=tokens.counter(None if made.model_files is None else made.model_files.tokenizer),
    )
    return [
        dataclasses.asdict(finding) | {"severity": "warning" if finding.rule in SERIOUS else "advice"}
        for finding in found
    ]
