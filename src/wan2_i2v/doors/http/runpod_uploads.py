"""Videos of RunPod jobs into their buckets: by whoever asks first, and by a thread when nobody asks.

Comes in: finished jobs. Goes out: what became of their uploads, kept in the jobs' folders, so that a restart goes on.
Imported by the RunPod router.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from wan2_i2v.doors.http import bucket, images, results
from wan2_i2v.doors.http.door import Door
from wan2_i2v.errors import JobNotFound, Wan2I2VError
from wan2_i2v.jobs.job import StoredJob

log = logging.getLogger(__name__)

DOOR = "runpod"
POLL_SECONDS = 0.5
STOP_SECONDS = 5.0
LOOKED_BACK = 1000
"""Finished jobs that a new server looks at for uploads that the one before did not get to."""


def target_of(job: StoredJob) -> bucket.Bucket | None:
    """The bucket that a job's video belongs into, if any."""
    return bucket.chosen(job.options.get("s3")) if job.options.get("door") == DOOR else None


def upload(here: Door, job: StoredJob) -> bucket.Upload | None:
    """Upload the video of a job that is done, unless that was done before; None for one without a bucket."""
    target = target_of(job)
    if target is None:
        return None
    clip, folder = results.finished(here.service, job)[1], here.service.folder(job.id)
    file = results.whole(clip, folder)
    return bucket.ensure(target, folder, file, results.media_type(clip), images.guard(here.settings))


@contextlib.contextmanager
def background(here: Door) -> Iterator[None]:
    """A thread that uploads what is finished while this lasts."""
    ending = threading.Event()
    thread = threading.Thread(target=_run, args=(here, ending), name="uploads", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        # An upload on its way may take minutes; the next server does it anew.
        thread.join(STOP_SECONDS)


def _run(here: Door, ending: threading.Event) -> None:
    store, last = here.service.store, None
    while not ending.is_set():
        try:
            if last is None:
                last = store.last_event()
                for job in store.page(limit=LOOKED_BACK, only=("done",)):
                    _try(here, job, ending)
            for event in store.events(last):
                last = event.seq
                if event.kind == "state" and event.data.get("state") == "done":
                    _try(here, store.get(event.job_id), ending)
        except Wan2I2VError as error:
            # The database does not answer, or a job was forgotten meanwhile: the next turn goes on behind it.
            log.warning("uploads wait: %s", error)
        ending.wait(POLL_SECONDS)


def _try(here: Door, job: StoredJob, ending: threading.Event) -> None:
    if ending.is_set() or target_of(job) is None:
        return
    try:
        result = upload(here, job)
    except JobNotFound as error:
        log.warning("%s", error)
        return
    if result is not None and result.error is not None:
        log.warning("%s: %s", job.id, result.error)
