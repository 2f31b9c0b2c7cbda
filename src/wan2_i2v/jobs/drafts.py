"""Plans made once for all submissions that differ in nothing but seed, names and places. Imported by the service.

Comes in: a request and what is known of its pictures. Goes out: what `planning.draft` gives for it. To plan takes milliseconds, and
a crowd asks for the same clip with many seeds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from wan2_i2v import planning
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.measured import Table
from wan2_i2v.memory import NOTHING_MEASURED
from wan2_i2v.plan import ImageFacts, JobPlan, LoraPlan
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow

REMEMBERED = 256
NAMES = {"seed", "job_id", "image", "last_image", "output"}
"""Fields of a request that a plan repeats, and that decide nothing else in it."""


class Drafts:
    """See the module. For the threads of one process."""

    def __init__(self, model: ModelRow, device: DeviceFacts) -> None:
        self._model, self._device = model, device
        self._table = NOTHING_MEASURED
        self._plans: OrderedDict[tuple[object, ...], JobPlan] = OrderedDict()
        self._lock = threading.Lock()

    def draft(
        self,
        request: GenerateRequest,
        facts: ImageFacts,
        kept: Path,
        last: str | None,
        seed: int,
        loras: Sequence[LoraPlan],
        table: Table,
    ) -> JobPlan:
        """The plan; `kept` is where the picture is, `last` the SHA-256 of the last one, `seed` for a request that has none.

        Raises what `planning.draft` raises.
        """
        key = (request.model_dump_json(exclude=NAMES), facts.sha256, last, tuple(loras))
        with self._lock:
            if table is not self._table:
                self._table = table
                self._plans.clear()
            known = self._plans.get(key)
            if known is not None:
                self._plans.move_to_end(key)
        if known is not None:
            return _renamed(known, request, facts, seed)
        plan = planning.draft(request, facts, kept, self._model, self._device, seed, loras, table=table)
        with self._lock:
            if table is self._table:
                self._plans[key] = plan
                if len(self._plans) > REMEMBERED:
                    self._plans.popitem(last=False)
        return plan


def _renamed(plan: JobPlan, request: GenerateRequest, facts: ImageFacts, seed: int) -> JobPlan:
    """A plan for another seed, under other names and at other places."""
    last = plan.last_image
    return plan.model_copy(
        update={
            "job_id": request.job_id,
            "image": facts,
            "last_image": None if last is None else last.model_copy(update={"path": request.last_image}),
            "seed": seed if request.seed is None else request.seed,
            "output": request.output or "",
        }
    )
