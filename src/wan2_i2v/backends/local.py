"""This program's own pipeline as a backend. Imported by `backends`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wan2_i2v.backends.base import Wanted
from wan2_i2v.events import Emit
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record

if TYPE_CHECKING:
    from wan2_i2v.stages.base import Job


class LocalBackend:
    def draft(self, wanted: Wanted) -> JobPlan:
        from wan2_i2v import measured, planning
        from wan2_i2v.models import catalog
        from wan2_i2v.models.lora import choosing

        request = wanted.request
        model = catalog.find(request.model) if wanted.runnable else catalog.look(request.model)
        device = wanted.machine.device(request.device)
        loras = choosing.choose(request, model)
        table = measured.load()
        return planning.draft(request, wanted.facts, wanted.picture, model, device, wanted.seed, loras, table=table)

    def run(self, jobs: Sequence[Job], *, emit: Emit, cancelled: Callable[[], bool]) -> list[Record]:
        from wan2_i2v import acting

        return acting.run(jobs, emit=emit, cancelled=cancelled)
