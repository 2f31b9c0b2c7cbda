"""The files of a job in our own API: its video, pictures of that, and the preview while it is being made."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from starlette.responses import Response

from wan2_i2v.doors.http import results
from wan2_i2v.doors.http.api_models import JobId
from wan2_i2v.doors.http.door import Door, door
from wan2_i2v.doors.http.errors import NotFound, documented
from wan2_i2v.jobs.worker import PREVIEW

router = APIRouter(tags=["files"])

TheDoor = Annotated[Door, Depends(door)]


def _file(*media_types: str) -> dict[str, Any]:
    """For OpenAPI: an answer with a file."""
    content: dict[int | str, Any] = {200: {"content": {name: {} for name in media_types}}}
    return {
        "responses": {**documented(404), **content, 304: {"description": "Not modified"}},
        "response_class": Response,
    }


@router.get(
    "/api/jobs/{job_id}/video", **_file("video/mp4", "video/webm", "image/gif", "image/webp", "application/zip")
)
def video(
    job_id: JobId,
    door: TheDoor,
    request: Request,
    download: Annotated[bool, Query(description="Have browsers save it")] = False,
) -> Response:
    """The video, in parts too (Range). Frames as PNG come as a ZIP archive."""
    clip = _clip(door, job_id)
    file = results.whole(clip, door.service.folder(job_id))
    return _answer(request, file, results.media_type(clip), f"{job_id}{file.suffix}", download=download)


@router.get("/api/jobs/{job_id}/thumbnail", **_file("image/webp"))
def thumbnail(job_id: JobId, door: TheDoor, request: Request) -> Response:
    """The first frame of the video."""
    path = results.thumbnail(_clip(door, job_id), door.service.folder(job_id))
    return _answer(request, path, "image/webp", path.name)


@router.get("/api/jobs/{job_id}/spritesheet", **_file("image/jpeg"))
def spritesheet(job_id: JobId, door: TheDoor, request: Request) -> Response:
    """Up to 16 frames of the video in rows of 4."""
    path = results.spritesheet(_clip(door, job_id), door.service.folder(job_id))
    return _answer(request, path, "image/jpeg", path.name)


@router.get("/api/jobs/{job_id}/preview", **_file("image/png"))
def preview(job_id: JobId, door: TheDoor, request: Request) -> Response:
    """The clip as it is taking shape, after the latest step that has a preview."""
    door.service.store.get(job_id)
    path = door.service.folder(job_id) / PREVIEW
    if not path.is_file():
        raise NotFound(f"{job_id} has no preview yet.")
    return _answer(request, path, "image/png", PREVIEW)


def _clip(door: Door, job_id: str) -> Path:
    """The video of a job that is done. Raises NotFound before, JobNotFound when it is gone."""
    job = door.service.store.get(job_id)
    if job.state != "done":
        raise NotFound(f"{job_id} is {job.state}; it has no video{' yet' if not job.is_over else ''}.")
    return results.finished(door.service, job)[1]


def _answer(request: Request, path: Path, media_type: str, name: str, *, download: bool = False) -> Response:
    """A file, or nothing when the client has it already. Browsers may keep it and have to ask."""
    facts = path.stat()
    tag = _tag(facts)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in [given.strip().removeprefix("W/") for given in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    kind = "attachment" if download else "inline"
    return FileResponse(
        path, media_type=media_type, filename=name, content_disposition_type=kind, headers=headers, stat_result=facts
    )


def _tag(facts: os.stat_result) -> str:
    return '"' + hashlib.sha256(f"{facts.st_mtime_ns} {facts.st_size} {facts.st_ino}".encode()).hexdigest()[:24] + '"'
