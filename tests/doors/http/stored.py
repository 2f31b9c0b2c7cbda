"""Stored jobs in every state, for tests of how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plans import CPU, facts, row
from wan2_i2v.errors import Wan2I2VError
from wan2_i2v.jobs.job import NewJob, StoredJob
from wan2_i2v.jobs.state import State
from wan2_i2v.jobs.store import Store
from wan2_i2v.plan import plan_job
from wan2_i2v.record import Check, Record, Verification
from wan2_i2v.request import GenerateRequest

PLAN = plan_job(GenerateRequest(image="p.png", num_frames=5, width=64, height=48), facts(), row(), CPU, 7)
CREATED = 1000.0
STARTED = 1002.0
FINISHED = 1005.5


class Clock:
    def __init__(self) -> None:
        self.now = CREATED

    def __call__(self) -> float:
        return self.now


def job_in(state: State, folder: Path, job_id: str = "j", options: dict[str, Any] | None = None) -> StoredJob:
    """A job that took the shortest way to `state` in a store of its own."""
    clock = Clock()
    store = Store(f"sqlite:///{folder}/{job_id}-{state}.db", clock=clock)
    plan = PLAN.model_copy(update={"job_id": job_id})
    limit = 2.0 if state == "timed_out" else None
    new = NewJob(job_id, "d", "{}", plan.model_dump_json(), options or {}, execution_timeout=limit)
    store.submit(new)
    clock.now = STARTED
    claimed = store.claim("worker", 1, 60)[0] if state != "queued" else None
    if claimed is not None:
        store.progress(claimed, "progress", {"stage": "denoise high", "done": 1, "total": 4})
        clock.now = FINISHED
        if state == "done":
            store.finish(claimed, {"video": f"/o/{job_id}.mp4"})
        elif state == "failed":
            store.fail(claimed, Wan2I2VError("it broke"))
        elif state == "cancelled":
            store.cancel(job_id)
        elif state == "timed_out":
            store.expire()
        elif state == "set_aside":
            for _ in range(3):
                store.died(claimed, Wan2I2VError("killed"))
                claimed = (store.claim("worker", 1, 60) or [claimed])[0]
    job = store.get(job_id)
    store.close()
    assert job.state == state
    return job


def record(*, passed: bool = True) -> Record:
    """The record of the job `j` when it is done."""
    check = Check(name="motion", passed=passed, value=1.0, limit=0.5, message="It moves.")
    return Record(
        job_id="j",
        status="done",
        plan=PLAN,
        video="/o/j.mp4",
        verification=Verification(checks=(check,)),
        seconds={"decode": 1.5},
    )
