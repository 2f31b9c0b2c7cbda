"""RunPod's requests and replies as data. Pure.

Comes in: the body of /run and /runsync, stored jobs and events. Goes out: `Order`, and JSON as RunPod's clients read it:
times in milliseconds, states in capitals. Imported by the router and by whoever posts webhooks.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from wan2_i2v.doors.http import fields
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.jobs.job import StoredEvent, StoredJob
from wan2_i2v.jobs.state import State
from wan2_i2v.record import Record

STATUS: dict[State, str] = {
    "queued": "IN_QUEUE",
    "running": "IN_PROGRESS",
    "done": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
    "timed_out": "TIMED_OUT",
    "set_aside": "FAILED",
}

LOW_PRIORITY = -1

EXAMPLE: dict[str, Any] = {
    "input": {"input_image": "boat.png", "prompt": "The boat drifts to the left.", "length": 33, "fps": 16}
}


class Policy(BaseModel):
    """Milliseconds. Left out, a job waits and runs for as long as it takes."""

    model_config = ConfigDict(extra="forbid")

    executionTimeout: Annotated[int, Field(gt=5000, le=604_800_000)] | None = None
    ttl: Annotated[int, Field(ge=10_000, le=604_800_000)] | None = None
    lowPriority: bool = False


class S3Config(BaseModel):
    """A bucket for the result. Used for the upload and never shown."""

    model_config = ConfigDict(extra="forbid")

    accessId: str = Field(min_length=1)
    accessSecret: str = Field(min_length=1, repr=False)
    bucketName: str = Field(min_length=1)
    endpointUrl: str = Field(min_length=1, pattern="^https?://")


class RunBody(BaseModel):
    """The body of /run and /runsync. Which names `input` may have: docs/runpod.md."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    input: dict[str, Any]
    webhook: str | None = None
    policy: Policy = Policy()
    s3Config: S3Config | None = None


class RefusedOutput(BaseModel):
    result: None = None
    status: str = "FAILED"
    message: str


class Refusal(BaseModel):
    """A refused request. `status` and `output` are for clients that look at nothing else, such as the asyncio one."""

    status: str = "FAILED"
    error: str
    code: str
    field: str | None
    output: RefusedOutput

    @classmethod
    def of(cls, code: str, field: str | None, message: str) -> Refusal:
        return cls(error=message, code=code, field=field, output=RefusedOutput(message=message))


@dataclass(frozen=True)
class Order:
    """A request in our terms; times in seconds. `options` is what has to be known when the job is over."""

    fields: fields.Fields
    job_id: str
    options: dict[str, Any]
    priority: int
    time_to_live: float | None
    execution_timeout: float | None


def order_of(body: RunBody, prefix: str = "") -> Order:
    """What a body asks for. A job without an id of its own gets one as RunPod makes them. Raises InvalidRequest."""
    asked = fields.translate(body.input)
    if body.webhook and asked.webhook and body.webhook != asked.webhook:
        raise InvalidRequest("webhook", asked.webhook, f"the webhook beside input ({body.webhook!r})", "Give one.")
    options: dict[str, Any] = {
        "webhook": body.webhook or asked.webhook,
        "return_video": asked.return_video or None,
        "s3": body.s3Config.model_dump() if body.s3Config is not None else None,
    }
    return Order(
        asked,
        asked.job_id or f"{prefix}{uuid.uuid4()}-u1",
        {"door": "runpod"} | {name: value for name, value in options.items() if value is not None},
        LOW_PRIORITY if body.policy.lowPriority else 0,
        _seconds(body.policy.ttl),
        _seconds(body.policy.executionTimeout),
    )


@dataclass(frozen=True)
class Result:
    """What is known of a finished video. `url` is where a client fetches it, `video` the file in base64 when asked for."""

    record: Record
    url: str
    video: str | None = None
    upload_error: str | None = None


def accepted(job: StoredJob) -> dict[str, Any]:
    """The reply of /run, /cancel and /retry."""
    return {"id": job.id, "status": STATUS[job.state]}


def uploading(job: StoredJob, worker: str) -> dict[str, Any]:
    """The reply for a job whose video is made and on its way to the bucket."""
    return _timed(job, worker) | {"status": "IN_PROGRESS", "output": {"stage": "upload", "done": 0, "total": 1}}


def status(job: StoredJob, worker: str, result: Result | None) -> dict[str, Any]:
    """The reply of /status. `result` is given when the job is done."""
    reply = _timed(job, worker)
    if job.state == "running" and job.progress is not None:
        reply["output"] = job.progress
    elif job.state == "done" and result is not None:
        reply["output"] = output(job.id, result, _between(job.started_at, job.finished_at))
    elif job.is_over:
        message = str((job.error or {}).get("message") or f"the job was {job.state.replace('_', ' ')}.")
        reply["error"] = message
        reply["output"] = {"jobId": job.id, "result": None, "status": reply["status"], "message": message}
    return reply


def output(job_id: str, result: Result, seconds: float | None) -> dict[str, Any]:
    """The `output` of a finished job, as the old container gave it and with what it left out."""
    record, plan = result.record, result.record.plan
    checks = record.verification.checks if record.verification is not None else ()
    told: dict[str, Any] = {
        "jobId": job_id,
        "result": record.video,
        "status": "DONE",
        "message": message_of(record),
        "execution_time": None if seconds is None else round(seconds, 3),
        "video_url": result.url,
        "width": plan.width,
        "height": plan.height,
        "num_frames": plan.num_frames,
        "fps": plan.fps,
        "seed": plan.seed,
        "verification": {
            "passed": record.verification is not None and record.verification.passed,
            "checks": [check.model_dump(include={"name", "passed", "state", "message"}) for check in checks],
        },
    }
    if result.video is not None:
        told["video"] = result.video
    if result.upload_error is not None:
        told["upload_error"] = result.upload_error
    return told


def message_of(record: Record) -> str:
    """One sentence: that the video is fine, or which checks it did not pass."""
    if record.verification is None:
        return "The video was made; it was not looked at."
    failures = record.verification.failures
    if failures:
        return "The video was made but did not pass its checks: " + "; ".join(check.message for check in failures)
    return f"The video was made and passed its {len(record.verification.checks)} checks."


def chunks(events: Sequence[StoredEvent], final: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What /stream gives for events: how far the job is, and its output at the end."""
    told: list[dict[str, Any]] = [{"output": event.data} for event in events if event.kind == "progress"]
    if final is not None:
        told.append({"output": final})
    return told


def stream(job: StoredJob, reply: Mapping[str, Any], news: list[dict[str, Any]]) -> dict[str, Any]:
    """The reply of /stream.

    A cancelled job is FAILED here: RunPod's own client does not count CANCELLED among the states that end a stream and
    would ask for ever.
    """
    said = "FAILED" if job.state == "cancelled" else reply["status"]
    told = {"id": job.id, "status": said, "stream": news}
    return told | ({"error": reply["error"]} if "error" in reply else {})


def health(counts: Mapping[State, int], retried: int, *, busy: bool) -> dict[str, Any]:
    """The reply of /health."""
    return {
        "jobs": {
            "completed": counts["done"],
            "failed": counts["failed"] + counts["timed_out"] + counts["set_aside"],
            "inProgress": counts["running"],
            "inQueue": counts["queued"],
            "retried": retried,
        },
        "workers": {"idle": int(not busy), "running": int(busy)},
    }


def _timed(job: StoredJob, worker: str) -> dict[str, Any]:
    """Id, state and times; `delayTime` is the wait for a worker, `executionTime` the work."""
    reply: dict[str, Any] = {"id": job.id, "status": STATUS[job.state]}
    delay = _between(job.created_at, job.started_at)
    spent = _between(job.started_at, job.finished_at)
    if delay is not None:
        reply |= {"delayTime": round(delay * 1000), "workerId": worker}
    if spent is not None:
        reply["executionTime"] = round(spent * 1000)
    return reply


def _between(start: float | None, end: float | None) -> float | None:
    """Seconds, never negative: the clock may have been set back."""
    return None if start is None or end is None else max(0.0, end - start)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
