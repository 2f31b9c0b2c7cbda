"""RunPod's HTTP shape, at `/` as the old container had it and under `/v2/{endpoint}/` as RunPod's clients call it.

Comes in: requests of the `runpod` package, curl and the old container's scripts. Goes out: JSON by `runpod_shape`. All
endpoint ids lead to the same queue. Included by the application.
"""

from __future__ import annotations

import base64
import math
import threading
from collections import OrderedDict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from starlette.concurrency import run_in_threadpool

from wan2_i2v.doors.http import bucket, fields, images, results, runpod_uploads
from wan2_i2v.doors.http import runpod_shape as shape
from wan2_i2v.doors.http.door import Door, client, door
from wan2_i2v.doors.http.errors import Problem, documented
from wan2_i2v.doors.http.runpod_uploads import DOOR, background
from wan2_i2v.jobs.errors import JobConflict
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Submission
from wan2_i2v.jobs.store import Store

__all__ = ["DOOR", "PREFIXES", "background", "envelope", "router", "telling"]

PREFIXES = ("/run", "/runsync", "/status", "/stream", "/cancel", "/retry", "/health", "/purge-queue", "/v2")
WAIT_SECONDS = 90.0
"""How long RunPod's own /runsync waits when it is not told; the old container's waited to the end."""
MAX_STREAMED = 10_000
MAX_CHUNKS = 200
"""Events in one answer of /stream."""

Here = Annotated[Door, Depends(door)]
Client = Annotated[str, Depends(client)]
JobId = Annotated[str, InPath(description="As /run gave it", max_length=128)]

routes = APIRouter(tags=["RunPod"], responses=documented(404, 409, model=shape.Refusal))


def envelope(problem: Problem) -> dict[str, Any]:
    return shape.Refusal.of(problem.code, problem.field, problem.message).model_dump()


def telling(here: Door, job: StoredJob) -> dict[str, Any]:
    """The body of a webhook: what /status says, once the video is in its bucket."""
    return _reply(here, job, "", settle=True)


@routes.post("/run", summary="Queue a job")
async def run(body: shape.RunBody, here: Here, who: Client) -> dict[str, Any]:
    return shape.accepted(await here.receiving.run(_submit, here, who, body, ""))


@routes.post("/runsync", summary="Queue a job and wait for it")
async def runsync(
    body: shape.RunBody,
    request: Request,
    here: Here,
    who: Client,
    wait: Annotated[int | None, Query(ge=1000, le=300_000, description="Milliseconds")] = None,
) -> dict[str, Any]:
    job = await here.receiving.run(_submit, here, who, body, "sync-")
    usual = WAIT_SECONDS if "endpoint" in request.path_params else math.inf
    job = await here.broadcaster.ended(job.id, usual if wait is None else wait / 1000)
    return await run_in_threadpool(_reply, here, job, _base(request), settle=True)


@routes.get("/status/{job_id}", summary="How far a job is, and its output")
@routes.post("/status/{job_id}", summary="How far a job is, and its output")
def status(job_id: JobId, request: Request, here: Here) -> dict[str, Any]:
    return _reply(here, here.service.store.get(job_id), _base(request), settle=False)


@routes.get("/stream/{job_id}", summary="What happened since the last call")
@routes.post("/stream/{job_id}", summary="What happened since the last call")
def stream(job_id: JobId, request: Request, here: Here) -> dict[str, Any]:
    """Each chunk is given once, whoever asks."""
    store = here.service.store
    job = store.get(job_id)
    reply = _reply(here, job, _base(request), settle=False)
    final = reply.get("output") if reply["status"] == "COMPLETED" else None
    return shape.stream(job, reply, _streamed(request).take(store, job_id, final))


@routes.post("/cancel/{job_id}", summary="Stop a job")
def cancel(job_id: JobId, here: Here) -> dict[str, Any]:
    """A job that is over stays as it is; the reply says how that is."""
    store = here.service.store
    try:
        return shape.accepted(store.cancel(job_id))
    except JobConflict:
        return shape.accepted(store.get(job_id))


@routes.post("/retry/{job_id}", summary="Queue a failed job again")
def retry(job_id: JobId, here: Here) -> dict[str, Any]:
    job = here.service.store.retry(job_id)
    here.service.worker.wake.set()
    return shape.accepted(job)


@routes.get("/health", summary="Jobs and workers")
async def health(here: Here) -> dict[str, Any]:
    store = here.service.store
    counts, retried = await here.looking.run(lambda: (store.counts(), store.retried()))
    return shape.health(counts, retried, busy=here.service.worker.is_busy)


@routes.post("/purge-queue", summary="Cancel all jobs that wait")
def purge_queue(here: Here) -> dict[str, Any]:
    return {"removed": here.service.store.purge_queue(), "status": "completed"}


router = APIRouter()
router.include_router(routes)
router.include_router(routes, prefix="/v2/{endpoint}", include_in_schema=False)


def _submit(here: Door, who: str, body: shape.RunBody, prefix: str) -> StoredJob:
    order = shape.order_of(body, prefix)
    bucket.check(bucket.chosen(order.options.get("s3")))
    shelf = here.service.shelf
    picture = shelf.put(images.from_text(order.fields.image, here.settings, "input_image"))
    last = order.fields.last_image
    asked = dict(order.fields.request)
    if order.fields.area is not None:
        facts = shelf.facts(picture)
        asked |= fields.size_of_area(order.fields.area, (facts.width, facts.height))
    submission = Submission(
        asked,
        picture,
        order.job_id,
        order.options,
        who,
        order.priority,
        order.time_to_live,
        order.execution_timeout,
        None if last is None else images.from_text(last, here.settings, "end_image"),
    )
    return here.service.submit(submission)[0]


def _reply(here: Door, job: StoredJob, base: str, *, settle: bool) -> dict[str, Any]:
    """A job as /status shows it. `settle`: wait for the upload of its video, where there is to be one."""
    worker = here.service.worker.name
    if job.state != "done":
        return shape.status(job, worker, None)
    record, clip = results.finished(here.service, job)
    folder, put = here.service.folder(job.id), None
    if runpod_uploads.target_of(job) is not None:
        put = runpod_uploads.upload(here, job) if settle else bucket.uploaded(folder)
        if put is None:
            return shape.uploading(job, worker)
    url = f"{base}/v1/videos/{job.id}/content" if put is None or put.url is None else put.url
    wanted = job.options.get("return_video")
    encoded = base64.b64encode(results.whole(clip, folder).read_bytes()).decode() if wanted else None
    return shape.status(job, worker, shape.Result(record, url, encoded, None if put is None else put.error))


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


class Streamed:
    """How much of each job's news was given by /stream; the jobs asked for longest ago are forgotten first."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, store: Store, job_id: str, final: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The chunks since the last call, and `final` as the last of all, once."""
        with self._lock:
            last, ended = self._given.pop(job_id, (0, False))
            events = store.events(last, MAX_CHUNKS, job_id)
            ending = final if not ended and len(events) < MAX_CHUNKS else None
            self._given[job_id] = (events[-1].seq if events else last, ended or ending is not None)
            if len(self._given) > MAX_STREAMED:
                self._given.popitem(last=False)
        return shape.chunks(events, ending)


def _streamed(request: Request) -> Streamed:
    """This application's; made at the first call."""
    state = request.app.state
    if not hasattr(state, "runpod_streamed"):
        state.runpod_streamed = Streamed()
    found = state.runpod_streamed
    assert isinstance(found, Streamed)
    return found
