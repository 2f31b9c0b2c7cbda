"""OpenAI's HTTP shape: `/v1/videos` and `/v1/models`, with `/v1/videos/sync` as vLLM-Omni has it.

Comes in: requests of the `openai` package, forms or JSON. Goes out: JSON by `openai_shape`, and files. Deleting a video
that is not finished cancels it. Included by the application.
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from wan2_i2v.doors.http import images, openai_fields, results, views
from wan2_i2v.doors.http import openai_shape as shape
from wan2_i2v.doors.http.door import Door, client, door
from wan2_i2v.doors.http.errors import NotFound, Problem, documented
from wan2_i2v.errors import InvalidRequest, Wan2I2VError
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Submission

PREFIXES = ("/v1",)
UPLOAD = "input_reference"
LAST = "last_image"
ONE_PICTURE = "one picture: a file, or image_url with a URL or a data URI"
MAX_FILES = 2
MAX_FIELDS = 200

EXAMPLE = {"prompt": "The boat drifts to the left.", "input_reference": {"image_url": "https://example.com/boat.png"}}
_FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string"},
        "seconds": {"type": "string", "description": "Times fps: the number of frames"},
        "size": {"type": "string", "description": "Width x height", "examples": ["832x480"]},
        "model": {"type": "string", "description": "Any name; the server has one model"},
    },
    "additionalProperties": True,
}
_FILE = {"type": "string", "format": "binary"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _FIELDS, "example": EXAMPLE},
            "multipart/form-data": {
                "schema": _FIELDS | {"properties": _FIELDS["properties"] | dict.fromkeys((UPLOAD, LAST), _FILE)}
            },
        },
    }
}
"""Which fields there are beside these: docs/openai.md."""

Here = Annotated[Door, Depends(door)]
Client = Annotated[str, Depends(client)]
Key = Annotated[str | None, Header(description="The id of the video, to submit it once however often this is sent")]
VideoId = Annotated[str, InPath(description="As creating the video gave it", max_length=128)]

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=documented(404, 409, model=shape.Refusal))


class NotReady(Wan2I2VError):
    """The video is not finished, so there is nothing to fetch yet."""

    code, http_status = "video_not_ready", 404


class NotMade(Wan2I2VError):
    """The video failed or was cancelled: there will never be anything to fetch."""

    code, http_status = "generation_failed", 422


def envelope(problem: Problem) -> dict[str, Any]:
    return shape.Refusal.of(problem.status, problem.code, problem.field, problem.message).model_dump()


@router.post("/videos", summary="Make a video", openapi_extra=BODY)
async def create(
    request: Request, response: Response, here: Here, who: Client, idempotency_key: Key = None
) -> dict[str, Any]:
    job = await _created(request, here, who, idempotency_key)
    return await run_in_threadpool(_shown, here, job, response)


@router.post("/videos/sync", summary="Make a video and wait for the file", openapi_extra=BODY, response_class=Response)
async def create_and_wait(request: Request, here: Here, who: Client, idempotency_key: Key = None) -> Response:
    job = await _created(request, here, who, idempotency_key)
    job = await here.broadcaster.ended(job.id, math.inf)
    return await run_in_threadpool(_file, here, job, "video", waited=True)


@router.get("/videos", summary="All videos, the latest first")
def listing(
    here: Here,
    after: Annotated[str | None, Query(description="The last id of the page before", max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    page = here.service.store.page(after=after, limit=limit + 1, newest_first=order == "desc")
    return shape.listing([_video(here, job) for job in page[:limit]], more=len(page) > limit)


@router.get("/videos/{video_id}", summary="How far a video is")
def retrieve(video_id: VideoId, here: Here, response: Response) -> dict[str, Any]:
    return _shown(here, here.service.store.get(video_id), response)


@router.delete("/videos/{video_id}", summary="Cancel a video, or take a finished one off the list")
def delete(video_id: VideoId, here: Here) -> dict[str, Any]:
    """The file of a finished video stays on the server's disk."""
    store = here.service.store
    if store.get(video_id).is_over:
        store.forget(video_id)
    else:
        store.cancel(video_id)
    return shape.deleted(video_id)


@router.get(
    "/videos/{video_id}/content",
    summary="The file, its first frame or a sheet",
    response_class=FileResponse,
    responses={206: {"description": "The part that Range names"}, 416: {"description": "There is no such part"}},
)
def content(
    video_id: VideoId,
    here: Here,
    variant: Annotated[
        Literal["video", "thumbnail", "spritesheet", "0"], Query(description="0 is the video, as SGLang counts")
    ] = "video",
) -> Response:
    return _file(here, here.service.store.get(video_id), variant)


@router.get("/models", summary="The model that this server has")
def models(here: Here) -> dict[str, Any]:
    return {"object": "list", "data": [_model(here)]}


@router.get("/models/{name:path}", summary="One model")
def model(name: str, here: Here) -> dict[str, Any]:
    if name != here.service.model.name:
        raise NotFound(f"this server has the model {here.service.model.name!r} only.")
    return _model(here)


async def _created(request: Request, here: Door, who: str, key: str | None) -> StoredJob:
    """The job of a form or a JSON body."""
    if key is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", key):
        raise InvalidRequest("Idempotency-Key", key, "letters, digits, '.', '_' and '-', at most 128")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(
            max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=here.settings.max_body_bytes
        ) as form:
            pairs = form.multi_items()
            uploads = [(name, await value.read()) for name, value in pairs if isinstance(value, UploadFile)]
            texts = openai_fields.nested((name, value) for name, value in pairs if isinstance(value, str))
    else:
        uploads, texts = [], _object(await request.body())
    return await here.receiving.run(_submit, here, who, texts, uploads, key)


def _submit(
    here: Door, who: str, texts: dict[str, Any], uploads: list[tuple[str, bytes]], key: str | None
) -> StoredJob:
    asked = openai_fields.translate(texts)
    files: dict[str, list[bytes]] = {UPLOAD: [], LAST: []}
    for name, data in uploads:
        fields = {UPLOAD: openai_fields.IMAGES, LAST: openai_fields.LAST_IMAGES}
        field = next((field for field, names in fields.items() if name.removesuffix("[]") in names), None)
        if field is None:
            raise InvalidRequest(name, "a file", f"no file here: the picture belongs into {UPLOAD}")
        files[field].append(data)
    first = _picture(here, UPLOAD, files[UPLOAD], asked.image)
    if first is None:
        raise InvalidRequest(UPLOAD, "nothing", ONE_PICTURE)
    last = _picture(here, LAST, files[LAST], asked.last_image)
    job_id = key or f"video_{uuid.uuid4().hex}"
    submission = Submission(asked.request, first, job_id, {"door": "openai"}, who, last_picture=last)
    return here.service.submit(submission)[0]


def _picture(here: Door, field: str, files: list[bytes], named: str | None) -> str | None:
    """The id of the one picture that was uploaded or named for `field`, kept. Raises InvalidRequest for two."""
    if len(files) + (named is not None) > 1:
        raise InvalidRequest(field, "more than one", ONE_PICTURE)
    if files:
        return here.service.shelf.put(images.within_limits(files[0], here.settings))
    return None if named is None else here.service.shelf.put(images.from_text(named, here.settings, field))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest("body", body[:40].decode(errors="replace"), "a JSON object or a form")
    return value


def _video(here: Door, job: StoredJob) -> dict[str, Any]:
    record = here.service.record(job.id) if job.state == "done" else None
    return shape.video(job, record, views.progress_of(job, job.progress, time.time())["fraction"])


def _shown(here: Door, job: StoredJob, response: Response) -> dict[str, Any]:
    """A video, with the time to wait before asking again."""
    if not job.is_over:
        eta = views.progress_of(job, job.progress, time.time())["eta_seconds"]
        response.headers["openai-poll-after-ms"] = str(shape.poll_after_ms(job, eta))
    return _video(here, job)


def _file(here: Door, job: StoredJob, variant: str, *, waited: bool = False) -> Response:
    """A finished video or a picture of it. Raises NotReady, NotMade, JobNotFound."""
    if not job.is_over:
        raise NotReady(f"{job.id} is {shape.STATUS[job.state]}; ask for GET /v1/videos/{job.id} until it is completed.")
    if job.state != "done":
        raise NotMade(str((job.error or {}).get("message") or f"{job.id} was {job.state}."))
    record, clip = results.finished(here.service, job)
    folder = here.service.folder(job.id)
    if variant == "thumbnail":
        return FileResponse(results.thumbnail(clip, folder), media_type="image/webp")
    if variant == "spritesheet":
        return FileResponse(results.spritesheet(clip, folder), media_type="image/jpeg")
    file = results.whole(clip, folder)
    told = {}
    if waited:
        spent = (job.finished_at or 0.0) - (job.started_at or 0.0)
        told = {
            "X-Request-Id": job.id,
            "X-Model": record.plan.model,
            "X-Inference-Time-S": f"{max(0.0, spent):.3f}",
            "X-Stage-Durations": json.dumps(record.seconds),
        }
    return FileResponse(file, media_type=results.media_type(clip), filename=f"{job.id}{file.suffix}", headers=told)


def _model(here: Door) -> dict[str, Any]:
    created = here.service.model.path.stat().st_mtime if here.service.model.path else 0.0
    return shape.model(here.service.model.name, created)
