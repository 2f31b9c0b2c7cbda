"""OpenAI's video objects and errors as data. Pure.

Comes in: stored jobs and records. Goes out: JSON as the `openai` package reads it, with what vLLM-Omni and SGLang add to
it. Imported by the router.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wan2_i2v.doors.http import results
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.state import State
from wan2_i2v.record import Record

STATUS: dict[State, str] = {
    "queued": "queued",
    "running": "in_progress",
    "done": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "timed_out": "failed",
    "set_aside": "failed",
}
"""There is no "cancelled" among OpenAI's states; `error.code` tells it from other failures."""

QUEUED_POLL_MS = 1000
SHORTEST_POLL_MS = 250
LONGEST_POLL_MS = 5000


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Refusal(BaseModel):
    """The envelope of every error, from which the `openai` package makes `.code`, `.param` and `.type`."""

    error: ErrorBody

    @classmethod
    def of(cls, status: int, code: str, field: str | None, message: str) -> Refusal:
        return cls(error=ErrorBody(message=message, type=_error_type(status), param=field, code=code))


def video(job: StoredJob, record: Record | None, fraction: float) -> dict[str, Any]:
    """The video object. `fraction`: how much of the job is done, 0 to 1. `record` is that of a finished job."""
    plan = json.loads(job.plan)
    finished = job.state == "done"
    told: dict[str, Any] = {
        "id": job.id,
        "object": "video",
        "created_at": int(job.created_at),
        "completed_at": int(job.finished_at) if finished and job.finished_at is not None else None,
        "expires_at": None,
        "status": STATUS[job.state],
        "model": plan["model"],
        "progress": 100 if finished else min(99, int(100 * fraction)),
        "prompt": plan["prompt"],
        "negative_prompt": plan["negative_prompt"],
        "seconds": f"{plan['duration_s']:g}",
        "size": f"{plan['width']}x{plan['height']}",
        "remixed_from_video_id": None,
        "error": _error(job),
        "fps": plan["fps"],
        "num_frames": plan["num_frames"],
        "duration_s": plan["duration_s"],
        "seed": plan["seed"],
        "warnings": plan["warnings"],
    }
    return told | (_result(job, record) if finished and record is not None else {})


def listing(videos: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """One page."""
    return {
        "object": "list",
        "data": list(videos),
        "first_id": videos[0]["id"] if videos else None,
        "last_id": videos[-1]["id"] if videos else None,
        "has_more": more,
    }


def deleted(job_id: str) -> dict[str, Any]:
    return {"id": job_id, "object": "video.deleted", "deleted": True}


def model(name: str, created: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": "wan2-i2v"}


def poll_after_ms(job: StoredJob, eta_seconds: float | None) -> int:
    """When to ask again: half of the time that is left, within limits."""
    if job.state == "queued" or eta_seconds is None:
        return QUEUED_POLL_MS
    return max(SHORTEST_POLL_MS, min(LONGEST_POLL_MS, round(500 * eta_seconds)))


def _result(job: StoredJob, record: Record) -> dict[str, Any]:
    file = Path(record.video or "")
    spent = None
    if job.started_at is not None and job.finished_at is not None:
        spent = round(max(0.0, job.finished_at - job.started_at), 3)
    checks = record.verification.checks if record.verification is not None else ()
    return {
        "url": f"/v1/videos/{job.id}/content",
        "file_name": file.name,
        "file_path": str(file),
        "media_type": results.media_type(file),
        "inference_time_s": spent,
        "stage_durations": record.seconds,
        "verification": {
            "passed": record.verification is not None and record.verification.passed,
            "checks": [check.model_dump(include={"name", "passed", "state", "message"}) for check in checks],
        },
    }


def _error(job: StoredJob) -> dict[str, Any] | None:
    if not job.is_over or job.state == "done":
        return None
    error = job.error or {}
    code = job.state if job.state != "failed" else error.get("code", "error")
    return {"code": code, "message": error.get("message") or f"the job was {job.state.replace('_', ' ')}."}


def _error_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
