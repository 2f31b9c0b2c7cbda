"""A Ray cluster as a backend: what is planned for its cards, and by whom it is run. Imported by `backends`.

The plan is that of this program on one card of the cluster, so that the video has the same bytes as one made here; with it
goes how the cards share the work of many such clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wan2_i2v import placement
from wan2_i2v.backends.base import Wanted
from wan2_i2v.devices import HERE, DeviceFacts
from wan2_i2v.errors import ClusterError
from wan2_i2v.events import Emit
from wan2_i2v.measured import Table
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow

if TYPE_CHECKING:
    from wan2_i2v.cluster.connection import Survey
    from wan2_i2v.stages.base import Job

ELSEWHERE = DeviceFacts("ray", "a Ray cluster", 0, 0, "the cluster's own", is_elsewhere=True)
"""For a service that owns the way to a cluster, and none of its cards."""


class RayBackend:
    def draft(self, wanted: Wanted) -> JobPlan:
        """The plan, for the cluster's smallest card.

        Raises ClusterError when there is no cluster, or none that can run this program; when `wanted` is not to be run, that
        is a warning and the plan is for this machine.
        """
        from wan2_i2v import measured
        from wan2_i2v.cluster import connection
        from wan2_i2v.models import catalog

        request = wanted.request
        model = catalog.find(request.model) if wanted.runnable else catalog.look(request.model)
        if wanted.machine != HERE:
            return _planned(wanted, model, wanted.machine.device(request.device), measured.load())
        try:
            found = connection.survey()
            device = found.device(request.device)
        except ClusterError as error:
            if wanted.runnable:
                raise
            plan = _planned(wanted, model, wanted.machine.device(request.device), measured.load())
            return plan.model_copy(update={"warnings": (*plan.warnings, f"planned for this machine: {error}")})
        return _clustered(_planned(wanted, model, device, found.table), model, found, device)

    def run(self, jobs: Sequence[Job], *, emit: Emit, cancelled: Callable[[], bool]) -> list[Record]:
        from wan2_i2v import acting
        from wan2_i2v.cluster import dispatch

        return acting.run(jobs, engine=acting.Engine(dispatch.run, _attempt), emit=emit, cancelled=cancelled)


def _planned(wanted: Wanted, model: ModelRow, device: DeviceFacts, table: Table) -> JobPlan:
    from wan2_i2v import planning
    from wan2_i2v.models.lora import choosing

    loras = choosing.choose(wanted.request, model)
    return planning.draft(wanted.request, wanted.facts, wanted.picture, model, device, wanted.seed, loras, table=table)


def _clustered(plan: JobPlan, model: ModelRow, found: Survey, device: DeviceFacts) -> JobPlan:
    """The plan with that of the cluster."""
    shared = placement.plan(plan.times, (len(found.nodes), found.cards, found.cpus), device)
    together = max((node.cards for node in found.nodes), default=0) if device.is_cuda else 0
    shared = shared.model_copy(update={"sequence": placement.sequence(plan.times, model.dim, together)})
    return plan.model_copy(update={"cluster": shared})


def _attempt(request: GenerateRequest, base: JobPlan) -> JobPlan:
    """The plan of another attempt: for the card, the weights and the picture of `base`."""
    from wan2_i2v import measured, pictures
    from wan2_i2v.models import catalog

    assert base.cluster is not None and base.model_files is not None
    picture = Path(base.image.path)
    model = catalog.again(base.model, base.model_files)
    last = None if base.last_image is None else base.last_image.path
    wanted = Wanted(request.replaced(last_image=last), picture, pictures.read_facts(picture), base.seed)
    plan = _planned(wanted, model, base.cluster.device, measured.load())
    return plan.model_copy(update={"cluster": base.cluster})
