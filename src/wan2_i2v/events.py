"""What the core says while it works. A leaf: doors render these, the core never prints.

Every event is frozen and JSON-ready through `dataclasses.asdict`; a preview's pixels are PNG bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Started:
    """A stage begins for one job. `total` is its number of steps."""

    job_id: str
    stage: str
    total: int


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of a stage are complete and, where the stage leaves an artifact, on disk."""

    job_id: str
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Preview:
    """A small PNG of the clip as it is taking shape, after denoise step `step` (1-based)."""

    job_id: str
    step: int
    png: bytes


@dataclass(frozen=True)
class Log:
    """A sentence for the user."""

    job_id: str
    level: Literal["info", "warning"]
    message: str


@dataclass(frozen=True)
class Metric:
    """A measured number, e.g. seconds or peak bytes of a stage."""

    job_id: str
    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Finished:
    """The job ended: `status` done, failed or cancelled, `detail` the video's path or the error's text."""

    job_id: str
    status: Literal["done", "failed", "cancelled"]
    detail: str


Event = Started | Progress | Preview | Log | Metric | Finished
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The sink for callers that do not listen."""
