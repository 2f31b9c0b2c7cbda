"""What a backend is: something that plans a request and runs what it planned. Imported by every backend and the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wan2_i2v.devices import HERE, Machine
from wan2_i2v.events import Emit
from wan2_i2v.plan import ImageFacts, JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest

if TYPE_CHECKING:
    from wan2_i2v.stages.base import Job


@dataclass(frozen=True)
class Wanted:
    """A request to plan: its picture with what is known of it, and the seed to take when it names none.

    `runnable` false: plan it too when something that running it takes is not here. `machine`: see `api.prepare`.
    """

    request: GenerateRequest
    picture: Path
    facts: ImageFacts
    seed: int
    runnable: bool = True
    machine: Machine = HERE


class Backend(Protocol):
    """Planning loads no weights and writes nothing."""

    def draft(self, wanted: Wanted) -> JobPlan:
        """The plan. Raises Wan2I2VError when it cannot work."""
        ...

    def run(self, jobs: Sequence[Job], *, emit: Emit, cancelled: Callable[[], bool]) -> list[Record]:
        """Make the clips of jobs that this backend planned; one record per job, in order, failures among them.

        Raises Cancelled once `cancelled()` is true; what is finished stays for a later run.
        """
        ...
