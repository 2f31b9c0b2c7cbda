"""Jobs of our own API: submit, list, look, cancel, retry, again, rate, forget, and the stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from wan2_i2v.doors.http import urls, views
from wan2_i2v.doors.http.api_models import AgainBody, JobBody, JobId, JobReply, JobsReply, RatingBody
from wan2_i2v.doors.http.door import Door, client, door
from wan2_i2v.doors.http.errors import NotFound, UrlRefused, documented
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Submission
from wan2_i2v.jobs.state import State
from wan2_i2v.plan import ImageFacts, JobPlan

router = APIRouter(tags=["jobs"])
MAX_WORDS = 16
CURSOR = r"^\d{1,18}$"

TheDoor = Annotated[Door, Depends(door)]
Client = Annotated[str, Depends(client)]


@router.post(
    "/api/jobs",
    status_code=201,
    response_model=JobReply,
    responses=documented(409, 507)
    | {200: {"model": JobReply, "description": "The same submission was accepted before; this is its job"}},
)
async def submit(
    body: JobBody,
    door: TheDoor,
    client: Client,
    idempotency_key: Annotated[str | None, Header(max_length=128)] = None,
) -> Response:
    """Accept a job; it is on disk when this answers. The same submission twice is one job."""
    if idempotency_key and body.job_id and idempotency_key != body.job_id:
        raise InvalidRequest("Idempotency-Key", idempotency_key, f"the job_id of the body ({body.job_id})")
    options: dict[str, Any] = {}
    if body.webhook is not None:
        options["webhook"] = _webhook(body.webhook)
    submission = Submission(
        body.settings,
        body.picture,
        body.job_id or idempotency_key or None,
        options,
        client,
        body.priority,
        last_picture=body.last_picture,
    )
    if door.service.is_quick(submission):
        return _submitted(*await door.intake.submit(submission))
    # A large picture is read for a second: others are not to wait for that.
    return await door.receiving.run(_accepted, door, submission)


def _webhook(url: str) -> str:
    try:
        urls.check(url)
    except UrlRefused as error:
        raise InvalidRequest("webhook", url, "an http(s) URL", str(error)) from None
    return url


def _accepted(door: Door, submission: Submission) -> Response:
    job, new = door.service.submit(submission)
    return _submitted(_view(door, job), new)


def _submitted(view: dict[str, Any], new: bool) -> Response:
    """A whole answer: to have FastAPI check a view of our own against its model would take as long as to make it."""
    headers = {"Location": view["links"]["self"]}
    return Response(to_json(view), 201 if new else 200, headers, "application/json")


def _view(door: Door, job: StoredJob) -> dict[str, Any]:
    return views.job_view(job, door.service.store)


@router.get("/api/jobs", response_model=JobsReply, responses=documented())
def page(
    door: TheDoor,
    state: Annotated[list[State], Query(description="Only jobs in these states")] = [],  # noqa: B006
    search: Annotated[str, Query(max_length=1000, description="Words that are in the prompts")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[str | None, Query(pattern=CURSOR, description="`next` of the page before")] = None,
) -> dict[str, Any]:
    """Jobs, newest first."""
    found = door.service.store.page(
        below=None if before is None else int(before), limit=limit + 1, only=state, words=search.split()[:MAX_WORDS]
    )
    shown = found[:limit]
    return {
        "jobs": views.job_views(shown, door.service.store),
        "next": str(shown[-1].seq) if len(found) > limit else None,
    }


@router.get("/api/jobs/{job_id}", response_model=JobReply, responses=documented(404))
def look(job_id: JobId, door: TheDoor) -> dict[str, Any]:
    """One job."""
    return _view(door, door.service.store.get(job_id))


@router.delete("/api/jobs/{job_id}", status_code=204, responses=documented(404, 409))
def forget(job_id: JobId, door: TheDoor) -> None:
    """Take a job that is over off the list; its video stays on the disk."""
    door.service.store.forget(job_id)


@router.get("/api/jobs/{job_id}/record", responses=documented(404))
def record(job_id: JobId, door: TheDoor) -> dict[str, Any]:
    """Everything about a job that ended: plan, checks, seconds of each stage, versions."""
    door.service.store.get(job_id)
    found = door.service.record(job_id)
    if found is None:
        raise NotFound(f"{job_id} has no record yet; it is written when the job ends.")
    return found.model_dump(mode="json")


@router.post("/api/jobs/{job_id}/cancel", response_model=JobReply, responses=documented(404, 409))
def cancel(job_id: JobId, door: TheDoor) -> dict[str, Any]:
    """Cancel a job that waits or runs; it stops after the step in progress."""
    return _view(door, door.service.store.cancel(job_id))


@router.post("/api/jobs/{job_id}/retry", response_model=JobReply, responses=documented(404, 409))
def retry(job_id: JobId, door: TheDoor) -> dict[str, Any]:
    """Queue a job again that failed, timed out or was set aside; it goes on after its last artifact."""
    job = door.service.store.retry(job_id)
    door.service.worker.wake.set()
    return _view(door, job)


@router.post(
    "/api/jobs/{job_id}/again",
    status_code=201,
    response_model=JobReply,
    responses=documented(404, 409, 507),
)
def again(job_id: JobId, door: TheDoor, client: Client, body: AgainBody | None = None) -> Response:
    """A new job with the same pictures and settings and another seed."""
    job = door.service.store.get(job_id)
    seed = body.seed if body is not None else None
    settings = {name: value for name, value in views.settings_of(job).items() if name != "seed"}
    if seed is not None:
        settings["seed"] = seed
    plan = JobPlan.model_validate_json(job.plan)
    submission = Submission(
        settings,
        _picture(door, job, plan.image),
        client=client,
        priority=job.priority,
        last_picture=None if plan.last_image is None else _picture(door, job, plan.last_image),
    )
    return _accepted(door, submission)


@router.post("/api/jobs/{job_id}/rating", response_model=JobReply, responses=documented(404, 409, 507))
def rate(job_id: JobId, body: RatingBody, door: TheDoor) -> dict[str, Any]:
    """Say how much a finished video is liked; `wan2-i2v insights` tells what is."""
    return _view(door, door.service.rate(job_id, body.rating))


def _picture(door: Door, job: StoredJob, facts: ImageFacts) -> bytes | str:
    """A picture of a job: as it was uploaded, or from the job's own folder, which outlives that. Raises NotFound."""
    if door.service.shelf.has(facts.sha256):
        return facts.sha256
    try:
        return Path(facts.path).read_bytes()
    except OSError:
        raise NotFound(f"the picture of {job.id} is gone; upload it again.") from None


@router.get(
    "/api/events",
    tags=["events"],
    responses={**documented(), 200: {"content": {"text/event-stream": {}}}},
    response_class=StreamingResponse,
)
async def events(
    door: TheDoor,
    last: Annotated[str | None, Query(pattern=CURSOR, description="Go on after this event")] = None,
    last_event_id: Annotated[str | None, Header(pattern=CURSOR, description="As `last`; browsers send it")] = None,
) -> StreamingResponse:
    """Server-sent events: `state`, `progress`, `preview`, `rating`; `reset` when the event asked for is too old."""
    door.broadcaster.check_room()
    # What a browser sends when it connects again is newer than the address it was first given.
    position = last_event_id if last_event_id is not None else last
    stream: AsyncIterator[bytes] = door.broadcaster.stream(None if position is None else int(position))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
