"""What a stage really took: seconds and peak memory, for the local table that corrects later plans.

Comes in: a job's plan and the stage. Goes out: `Sample`s in the context, which the pipeline writes when the run ends. On a
card the peak is the allocator's own count. On a CPU it is the process's private memory as `private` counts it on Linux;
elsewhere no peak is measured. Imported by the pipeline.
"""

from __future__ import annotations

import re

import psutil
import torch

from wan2_i2v import devices
from wan2_i2v.errors import DeviceError
from wan2_i2v.events import Log, Metric
from wan2_i2v.measured import Sample, add
from wan2_i2v.memory import GIB
from wan2_i2v.plan import JobPlan
from wan2_i2v.stages import private
from wan2_i2v.stages.base import Context, peak_of

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

_watched: list[private.Peak] = []
"""The peak that is being counted, where the system has one to count. A process runs one stage at a time."""


def begin(plan: JobPlan, stage: str) -> None:
    """Count the peak of a stage from here on; of one that has no model nothing is counted, and no card is asked for."""
    if peak_of(plan, stage) is not None:
        restart(plan.device)


def restart(device: str) -> None:
    """Count the peak from here on."""
    _end()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif private.CLEAR.exists():
        _watched.append(private.Peak())


def peak_gib(device: str) -> float | None:
    """The most memory that was held since `restart`, in the device's memory; None where that is not counted.

    The count ends here.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / GIB
    return _end()


def held_gib(device: str) -> float | None:
    """The memory that is held now, as `peak_gib` counts it."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device) / GIB
    return private.held() / GIB if private.CLEAR.exists() else None


def _end() -> float | None:
    """End the count that is going on, if one is: its peak in GiB."""
    return _watched.pop().end() / GIB if _watched else None


def note(plan: JobPlan, stage: str, seconds: float, context: Context, planned: JobPlan) -> float | None:
    """Remember a stage that ran to its end, and say so. Its prediction counts only when it ran as `planned`.

    The peak in GiB, where one was measured.
    """
    context.emit(Metric(plan.job_id, f"{stage} time", seconds, "s"))
    peak = peak_of(plan, stage)
    if peak is None:
        return None
    most = peak_gib(plan.device)
    if most is not None:
        context.emit(Metric(plan.job_id, f"{stage} peak", most, "GiB"))
    predicted = peak.memory_gib if peak == peak_of(planned, stage) else 0.0
    _remember(plan, stage, context, seconds=seconds, predicted_gib=predicted, peak_gib=most)
    return most


def shortage(plan: JobPlan, stage: str, context: Context, reason: str) -> None:
    """Remember that memory ran out: the stage needed more than it could have had, whatever was predicted.

    What it could have had is what it held and what was free; less than predicted when other programs took the rest, and then
    the prediction is not to blame. Where a limit stops a process that has free memory before it (`ulimit -v`), it needed no
    more than what the error in `reason` says that it asked for; of RAM, nothing more where it does not say.
    """
    peak, most = peak_of(plan, stage), peak_gib(plan.device)
    if peak is None or most is None:
        return
    on_card = plan.device.startswith("cuda")
    free = (torch.cuda.mem_get_info(plan.device)[0] if on_card else psutil.virtual_memory().available) / GIB
    asked = _asked_gib(reason)
    more = min(free, asked) if asked is not None else free if on_card else 0.0
    _remember(plan, stage, context, seconds=0.0, predicted_gib=peak.memory_gib, peak_gib=most + more)


def _asked_gib(reason: str) -> float | None:
    """What an allocator's or NumPy's error says that was asked for: `tried to allocate 512 bytes`, `allocate 2.00 GiB`."""
    found = re.search(r"allocate (\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB|TiB)\b", reason)
    return None if found is None else float(found[1]) * UNITS[found[2]] / GIB


def _remember(plan: JobPlan, stage: str, context: Context, **values: float | None) -> None:
    peak = peak_of(plan, stage)
    assert peak is not None
    try:
        label = devices.detect(plan.device).label
    except DeviceError:
        # The driver's tool does not answer; the job does not depend on it.
        return
    sample = Sample(
        device=label,
        dtype=plan.dtype,
        model=plan.model,
        kind=peak.kind,
        residency=peak.residency,
        work=next((time.work for time in plan.times if time.stage == stage), 0.0) if values["seconds"] else 0.0,
        **values,  # type: ignore[arg-type]
    )
    context.samples.append(sample)


def write(context: Context, job_id: str) -> None:
    """Put the samples of a run into the table; a table that cannot be written is no trouble of the job's.

    The run is over: a count that a failed stage left going ends.
    """
    _end()
    if not context.samples:
        return
    try:
        add(*context.samples)
    except OSError as error:
        context.emit(Log(job_id, "info", f"measured times and peaks cannot be kept: {error}"))
