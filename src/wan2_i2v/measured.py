"""A small local table of what stages really took on this machine: seconds and peaks. A leaf without torch.

Comes in: one `Sample` per stage that ran to its end, from the runtime (`add`). Goes out: `Table`, from which the plan
takes seconds per unit of work and how much a measured peak was above the predicted one. One JSON object per line, newest
last, in `Settings().measured`; lines that cannot be read are passed over, so a damaged table only costs estimates.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wan2_i2v.settings import Settings

Kind = Literal["text", "image", "denoise", "decode", "verify"]
"""Stages by what they do: both experts are `denoise`."""

NEWEST = 5
"""How many of the newest samples of one kind decide."""

MOST_BYTES = 256 * 1024
"""A longer table loses its older half at the next `add`."""


class Sample(BaseModel):
    """One stage of one job. `device` is the device's label, `work` as in the plan's `times` (FLOPs; pixels for verify).

    `seconds` without loading the model. `predicted_gib` and `peak_gib` are of the device's memory; None where no peak was
    measured.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    device: str
    dtype: str
    model: str
    kind: Kind
    residency: str
    work: float
    seconds: float
    predicted_gib: float = 0.0
    peak_gib: float | None = None


class Table(BaseModel):
    """All samples, oldest first."""

    model_config = ConfigDict(frozen=True)

    samples: tuple[Sample, ...] = ()

    def seconds_per_work(self, device: str, dtype: str, model: str, kind: Kind, residency: str) -> float | None:
        """The median rate of the newest samples of exactly this; None when it was never measured."""
        rates = self._rates.get((device, dtype, model, kind, residency))
        return statistics.median(rates[-NEWEST:]) if rates else None

    @cached_property
    def _rates(self) -> dict[tuple[str, ...], list[float]]:
        """Seconds per work of all samples, in order, by what they are of: a plan asks once for every stage."""
        found: dict[tuple[str, ...], list[float]] = {}
        for sample in self.samples:
            if sample.work > 0:
                key = (sample.device, sample.dtype, sample.model, sample.kind, sample.residency)
                found.setdefault(key, []).append(sample.seconds / sample.work)
        return found

    def growth(self, device: str, dtype: str, kind: Kind) -> float:
        """The most by which the newest measured peaks were above the predicted ones, as a factor of at least 1."""
        wanted = (device, dtype, kind)
        ratios = [
            sample.peak_gib / sample.predicted_gib
            for sample in self.samples
            if (sample.device, sample.dtype, sample.kind) == wanted and sample.peak_gib and sample.predicted_gib > 0
        ]
        return max([1.0, *ratios[-NEWEST:]])


def load() -> Table:
    """The table on disk; empty when there is none."""
    try:
        lines = Settings().measured.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return Table()
    samples = []
    for line in lines:
        with contextlib.suppress(ValidationError):
            samples.append(Sample.model_validate_json(line))
    return Table(samples=tuple(samples))


def add(*samples: Sample) -> None:
    """Append samples. Several processes may do so at once: each line is one write.

    Raises OSError when the place cannot be written.
    """
    path = Settings().measured
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{sample.model_dump_json()}\n" for sample in samples)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
    if path.stat().st_size > MOST_BYTES:
        _halve(path)


def _halve(path: Path) -> None:
    """Keep the newer half, put in place atomically."""
    lines = path.read_bytes().splitlines(keepends=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as kept:
        kept.writelines(lines[len(lines) // 2 :])
    Path(kept.name).replace(path)
