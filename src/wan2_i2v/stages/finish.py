"""Put the verified clip at its final place, with the record inside, and close the job.

Comes in: the clip and its verification. Goes out: the video, `record.json` and a sidecar beside the video. What is
written into the video depends on request and plan alone (no times, names or machines), so that the same request twice
gives the same bytes; times and versions are in the record. Needs no model.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wan2_i2v import places
from wan2_i2v.comfyui import ticket
from wan2_i2v.errors import Wan2I2VError, translate
from wan2_i2v.media import metadata
from wan2_i2v.record import Attempt, Record, Recovery, Verification
from wan2_i2v.request import GenerateRequest
from wan2_i2v.stages.base import Context, Job, Stage, no_model, one_step
from wan2_i2v.workspace import make_folder, save_json, sweep

PACKAGES = ("wan2-i2v", "torch", "diffusers", "transformers", "av")

PLACES = {
    *("image", "last_image", "model", "output", "job_id", "overwrite", "device", "attention", "compile"),
    *("backend", "comfyui_url"),
}
"""Fields of a request that name places and machines; the plan has what they stand for."""


def embedded(job: Job) -> dict[str, Any]:
    """What goes into the video's own file: the request as far as it was set, the plan's content, the verification."""
    return {
        "request": _request(job),
        "plan": job.plan.content(),
        "verification": _verification(job).model_dump(mode="json"),
    }


def close(
    job: Job,
    error: Wan2I2VError | None,
    seconds: dict[str, float],
    recoveries: tuple[Recovery, ...] = (),
    peaks: Mapping[str, float] = MappingProxyType({}),
) -> Record:
    """Write how the job ended to `record.json` and, beside a finished video, to its sidecar; return the record.

    `seconds`, `recoveries` and `peaks` (GiB) are added to those of earlier runs. A record that cannot be written makes the job a failed one.
    """
    before = job.workspace.load_record()
    if error is None and before is not None and places.finished(job.workspace):
        return before
    draft = Record(
        job_id=job.plan.job_id,
        status="failed",
        plan=job.plan,
        verification=_verification(job) if job.workspace.verification.exists() else None,
        error=None if error is None else error.to_dict(),
        seconds=(before.seconds if before else {}) | seconds,
        peaks=(before.peaks if before else {}) | {stage: round(peak, 3) for stage, peak in peaks.items()},
        recoveries=(before.recoveries if before else ()) + recoveries,
        versions=_versions() | ticket.versions(job.workspace.comfyui),
    )
    try:
        return _save(job, draft)
    except OSError as problem:
        failure = translate(problem, f"writing the record of {job.plan.job_id}")
        return draft.model_copy(update={"error": failure.to_dict()})


def publish(job: Job, best: Record, attempts: tuple[Attempt, ...]) -> None:
    """Put the clip of one attempt, `best`, at the job's place, with the job's record inside.

    Raises OutputError when the place is taken.
    """
    assert best.video is not None and best.verification is not None
    target = places.final_path(job.plan)
    places.check_sidecar(target)
    make_folder(target.parent)
    for path in (target, places.sidecar_path(target)):
        sweep(path)
    inside = {
        "request": _request(job),
        "plan": job.plan.content(),
        "verification": best.verification.model_dump(mode="json"),
        "attempts": [one.model_dump(mode="json", exclude={"seconds", "video"}) for one in attempts],
        "chosen_plan": best.plan.content(),
    }
    metadata.embed(Path(best.video), target, job.plan.container, inside, job.plan.overwrite)


def adopt(job: Job, best: Record, error: Wan2I2VError | None, attempts: tuple[Attempt, ...]) -> Record:
    """Write the record of a job whose video is that of its attempt `best`; failed where there is an `error`."""
    seconds: dict[str, float] = {}
    for one in attempts:
        seconds[f"attempt {one.number}"] = one.seconds
    draft = Record(
        job_id=job.plan.job_id,
        status="failed",
        plan=job.plan,
        verification=best.verification,
        error=None if error is None else error.to_dict(),
        seconds=seconds,
        peaks=best.peaks,
        recoveries=best.recoveries,
        versions=best.versions,
        attempts=attempts,
    )
    try:
        return _save(job, draft)
    except OSError as problem:
        failure = translate(problem, f"writing the record of {job.plan.job_id}")
        return draft.model_copy(update={"error": failure.to_dict()})


def _save(job: Job, draft: Record) -> Record:
    """The record on disk; that of a job without an error is done, and its clip in the workspace no longer needed."""
    if draft.error is not None:
        save_json(job.workspace.record, draft)
        return draft
    video = places.final_path(job.plan).absolute()
    record = draft.model_copy(update={"status": "done", "video": str(video)})
    save_json(places.sidecar_path(video), record)
    save_json(job.workspace.record, record)
    _remove(places.clip_path(job.workspace, job.plan))
    return record


def _remove(clip: Path) -> None:
    if clip.is_dir():
        shutil.rmtree(clip)
    else:
        clip.unlink(missing_ok=True)


def _request(job: Job) -> dict[str, Any]:
    if not job.workspace.request.exists():
        return {}
    request = GenerateRequest(**json.loads(job.workspace.request.read_text(encoding="utf-8")))
    return request.model_dump(mode="json", exclude=PLACES, exclude_defaults=True)


def _verification(job: Job) -> Verification:
    return Verification.model_validate_json(job.workspace.verification.read_bytes())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _run(model: None, job: Job, context: Context) -> None:
    target = places.final_path(job.plan)
    places.check_sidecar(target)
    make_folder(target.parent)
    for path in (target, places.sidecar_path(target)):
        sweep(path)
    clip = places.clip_path(job.workspace, job.plan)
    metadata.embed(clip, target, job.plan.container, embedded(job), job.plan.overwrite)
    context.progress(job, STAGE.name, 1, 1)


STAGE = Stage(
    name="finish",
    run=_run,
    done=lambda job: places.finished(job.workspace),
    steps=one_step,
    model=no_model,
    shares=lambda plan: "finish",
)
