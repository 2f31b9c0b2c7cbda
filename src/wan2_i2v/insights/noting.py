"""Note runs as they end, and ratings. Imported by the layer that runs jobs and by `api`."""

from __future__ import annotations

from wan2_i2v import devices
from wan2_i2v.errors import DeviceError
from wan2_i2v.insights.book import Book
from wan2_i2v.insights.run import run_of
from wan2_i2v.record import Record
from wan2_i2v.workspace import Workspace

GIB = 2**30


def note(record: Record, workspace: Workspace, job: str | None) -> None:
    """Keep a run. `job` names the job whose video it is; None for an attempt that was not chosen.

    Raises OutputError when the database cannot be written.
    """
    label, memory = _device(record.plan.device)
    with Book() as book:
        book.add(run_of(record, workspace.root, label, memory), job)


def rate(record: Record, workspace: Workspace, rating: int) -> None:
    """Rate a job's video; a run that is not in the database yet is added first.

    Raises OutputError as `note`.
    """
    with Book() as book:
        if book.rate(record.job_id, rating):
            return
    chosen = next((one for one in record.attempts if one.chosen), None)
    place = workspace if chosen is None else workspace.attempt(chosen.number)
    note(place.load_record() or record, place, record.job_id)
    with Book() as book:
        book.rate(record.job_id, rating)


def _device(name: str) -> tuple[str, float]:
    """Label and GiB of memory of a device; its name alone where it is not (or no longer) here."""
    try:
        device = devices.detect(name)
    except DeviceError:
        return name, 0.0
    return device.label, (device.vram_bytes if device.is_cuda else device.ram_bytes) / GIB
