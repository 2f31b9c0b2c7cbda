"""A handler for RunPod's own worker SDK: `python -m wan2_i2v.doors.runpod`. Needs the extra `runpod`.

Comes in: a job of the SDK, `{"id", "input", "s3Config"?}`, with the fields of docs/runpod.md. Goes out: the same `output`
as the HTTP door's, with the video in base64, or at a presigned URL when there is a bucket. Progress goes out on the way.
Cancelling a job stops it after the step in progress, so that the device is free for the next one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wan2_i2v import api
from wan2_i2v.doors.http import bucket, fields, images, results
from wan2_i2v.doors.http import runpod_shape as shape
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.errors import Cancelled, Wan2I2VError, from_dict, translate
from wan2_i2v.events import Event, Progress, Started
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import replacing

PROGRESS_SECONDS = 1.0
"""The SDK starts a thread for each word of progress, so there is one a second at most."""


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    """What the SDK calls. A refusal or failure is `{"error": …}`, which the SDK reports as FAILED."""
    stopped = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(_answer, job, stopped))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stopped.set()
        await work
        raise


def main() -> None:
    """Take jobs until RunPod says stop; the SDK finds its endpoint in the environment."""
    import runpod

    runpod.serverless.start({"handler": handler})


def _answer(job: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
    try:
        return _made(job, stopped)
    except Cancelled as error:
        return {"error": str(error)}
    except (Wan2I2VError, OSError) as error:
        return {"error": str(translate(error, f"running {job['id']}"))}


def _made(job: Mapping[str, Any], stopped: threading.Event) -> dict[str, Any]:
    """Make the video of a job. Raises Wan2I2VError."""
    asked = fields.translate(job["input"])
    target = bucket.chosen(job.get("s3Config"))
    bucket.check(target)
    settings = HttpSettings()
    picture = _picture(images.from_text(asked.image, settings, "input_image"))
    last = None
    if asked.last_image is not None:
        last = str(_picture(images.from_text(asked.last_image, settings, "end_image")))
    request = GenerateRequest(
        **asked.request, **_area(asked, picture), image=str(picture), last_image=last, job_id=asked.job_id
    )
    order = api.prepare([request])[0]
    if isinstance(order, Wan2I2VError):
        raise order
    began = time.monotonic()
    record = api.run([order], _Speaker(job), stopped.is_set)[0]
    if record.status != "done" or record.video is None:
        raise from_dict(record.error or {"message": f"{record.job_id} failed"})
    return _output(record, time.monotonic() - began, target, order.workspace.root, settings)


def _output(
    record: Record, seconds: float, target: bucket.Bucket | None, folder: Path, settings: HttpSettings
) -> dict[str, Any]:
    clip = Path(record.video or "")
    file = results.whole(clip, folder)
    if target is None:
        encoded = base64.b64encode(file.read_bytes()).decode()
        return shape.output(record.job_id, shape.Result(record, str(file), encoded), seconds)
    put = bucket.ensure(target, folder, file, results.media_type(clip), images.guard(settings))
    return shape.output(record.job_id, shape.Result(record, put.url or str(file), None, put.error), seconds)


def _picture(data: bytes) -> Path:
    """The picture as a file named by its content, beside the jobs."""
    folder = Settings().output / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    return path


def _area(asked: fields.Fields, picture: Path) -> dict[str, int]:
    if asked.area is None:
        return {}
    from wan2_i2v import pictures

    facts = pictures.read_facts(picture)
    return fields.size_of_area(asked.area, (facts.width, facts.height))


class _Speaker:
    """Tells RunPod how far a job is."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._job, self._last = dict(job), 0.0

    def __call__(self, event: Event) -> None:
        from runpod.serverless import progress_update

        now = time.monotonic()
        if isinstance(event, Started | Progress) and now - self._last >= PROGRESS_SECONDS:
            self._last = now
            done = event.done if isinstance(event, Progress) else 0
            progress_update(self._job, {"stage": event.stage, "done": done, "total": event.total})


if __name__ == "__main__":
    main()
