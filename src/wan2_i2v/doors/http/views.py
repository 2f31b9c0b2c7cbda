"""A stored job as our own API shows it. Pure but for the store's position of a waiting job. Imported by the routers.

The fraction of a job that is done counts stages by a rough share of the time that they take; the remaining time follows
from it and from the time since the job began, once there is enough of both to say anything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json

from wan2_i2v.jobs.job import StoredEvent, StoredJob
from wan2_i2v.jobs.store import Store
from wan2_i2v.schedule import Pass

SHARES = {"preprocess": 0.2, "text": 2.0, "image": 2.0, "decode": 6.0, "verify": 2.0, "finish": 0.2}
"""Time of a stage in denoise steps, roughly. Stages that are not listed count their steps."""
ENOUGH = 0.05
"""Fraction from which a remaining time is told."""
PLAN_FIELDS = (
    *("width", "height", "num_frames", "model_frames", "fps", "duration_s", "seed", "model", "recipe", "sampler"),
    *("scheduler", "flow_shift", "guidance", "crop", "container", "crf", "device", "dtype", "warnings"),
)
PLACES = ("image", "last_image", "output", "job_id", "overwrite", "device", "model", "backend", "comfyui_url")
"""Fields of a request that are no settings: names and places, which the server decides."""


@lru_cache(maxsize=256)
def _parsed(
    seq: int, request: str, plan: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str | None], tuple[tuple[str, float], ...]]:
    """Settings, plan summary, ids of the pictures and stages of a job; none of them ever changes."""
    asked, planned = from_json(request), from_json(plan)
    settings = {name: value for name, value in asked.items() if name not in PLACES}
    summary = {name: planned[name] for name in PLAN_FIELDS if name in planned} | {
        "prompt": planned["prompt"],
        "negative_prompt": planned["negative_prompt"],
        "num_inference_steps": len(planned["steps"]),
    }
    last = planned.get("last_image")
    shown = {"picture": planned["image"]["sha256"], "last_picture": None if last is None else last["sha256"]}
    return settings, summary, shown, _stages(planned)


def _stages(plan: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """Every stage with its share, in order."""
    passes = [Pass(step["expert"], plain=step.get("plain", False)).stage for step in plan["steps"]]
    denoise = [(stage, float(passes.count(stage))) for stage in dict.fromkeys(passes)]
    before = [(name, SHARES[name]) for name in ("preprocess", "text", "image")]
    return (*before, *denoise, *((name, SHARES[name]) for name in ("decode", "verify", "finish")))


def settings_of(job: StoredJob) -> dict[str, Any]:
    """What was asked for, sparse."""
    return _parsed(job.seq, job.request, job.plan)[0]


def progress_of(job: StoredJob, progress: dict[str, Any] | None, now: float) -> dict[str, Any]:
    """stage, done, total, fraction and eta_seconds. `progress`: what the worker last said."""
    if job.state == "done":
        return {"stage": None, "done": None, "total": None, "fraction": 1.0, "eta_seconds": 0.0}
    said = progress or {}
    stage, done, total = said.get("stage"), said.get("done"), said.get("total")
    fraction = _fraction(_parsed(job.seq, job.request, job.plan)[3], stage, done or 0, total or 1)
    eta = None
    if job.state == "running" and job.started_at is not None and fraction >= ENOUGH:
        eta = round(max(0.0, now - job.started_at) * (1 - fraction) / fraction, 1)
    return {"stage": stage, "done": done, "total": total, "fraction": round(fraction, 4), "eta_seconds": eta}


def _fraction(stages: tuple[tuple[str, float], ...], stage: str | None, done: int, total: int) -> float:
    names = [name for name, _ in stages]
    if stage not in names:
        return 0.0
    index = names.index(stage)
    before = sum(share for _, share in stages[:index])
    return (before + stages[index][1] * min(done / total, 1.0)) / sum(share for _, share in stages)


def job_views(jobs: Sequence[StoredJob], store: Store) -> list[dict[str, Any]]:
    """Jobs as our own API and its events show them."""
    positions = store.positions(jobs)
    return [_view(job, positions.get(job.id)) for job in jobs]


def job_view(job: StoredJob, store: Store) -> dict[str, Any]:
    """One job, see `job_views`."""
    return job_views([job], store)[0]


def _view(job: StoredJob, position: int | None) -> dict[str, Any]:
    settings, summary, shown, _ = _parsed(job.seq, job.request, job.plan)
    error = None if job.error is None or job.state == "queued" else job.error
    return {
        "id": job.id,
        "state": job.state,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "priority": job.priority,
        "attempts": job.attempts,
        "position": position,
        **progress_of(job, job.progress, time.time()),
        **shown,
        "settings": settings,
        "plan": summary,
        "error": error and {"code": error.get("code", "error"), "message": error.get("message", "")},
        "verification": _checks(job),
        "rating": (job.output or {}).get("rating"),
        "links": _links(job.id),
    }


def _checks(job: StoredJob) -> list[dict[str, Any]] | None:
    """The checks of a finished video; null before, and where it was not looked at."""
    checks = (job.output or {}).get("checks")
    return checks and [check | {"sentence": check["message"]} for check in checks]


def _links(job_id: str) -> dict[str, str]:
    own = f"/api/jobs/{quote(job_id)}"
    parts = ("video", "thumbnail", "spritesheet", "preview", "record")
    return {"self": own} | {part: f"{own}/{part}" for part in parts} | {"events": "/api/events"}


def event_data(event: StoredEvent, store: Store) -> dict[str, Any]:
    """What a server-sent event says beside its job and time."""
    job = store.find(event.job_id)
    if job is None or event.kind == "preview":
        return event.data
    if event.kind == "state":
        return {"state": event.data["state"], "job": job_view(job, store)}
    if event.kind == "progress":
        return progress_of(job, event.data, event.at)
    return event.data
