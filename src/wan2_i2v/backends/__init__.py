"""What makes clips: this program itself, a ComfyUI server, or a Ray cluster. Imported by the API and the jobs; loads no torch by itself.

A request, or else WAN2_I2V_BACKEND, names the backend that plans; a plan says for itself who runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wan2_i2v.backends.base import Backend
from wan2_i2v.backends.comfyui import ComfyUIBackend, moved
from wan2_i2v.backends.local import LocalBackend
from wan2_i2v.backends.ray import RayBackend
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.events import Emit, ignore
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import BackendName, GenerateRequest
from wan2_i2v.settings import Settings

if TYPE_CHECKING:
    from wan2_i2v.stages.base import Job

BACKENDS: dict[BackendName, Backend] = {"local": LocalBackend(), "comfyui": ComfyUIBackend(), "ray": RayBackend()}

__all__ = ["BACKENDS", "Backend", "moved", "name_of", "of", "run"]


def name_of(request: GenerateRequest) -> BackendName:
    """The backend that a request names, else that of the settings.

    Raises InvalidRequest for a setting that names none.
    """
    name = request.backend or Settings().backend
    known = next((known for known in BACKENDS if known == name), None)
    if known is None:
        raise InvalidRequest("WAN2_I2V_BACKEND", name, f"one of {', '.join(BACKENDS)}")
    return known


def of(request: GenerateRequest) -> Backend:
    """As `name_of`."""
    return BACKENDS[name_of(request)]


def run(jobs: Sequence[Job], *, emit: Emit = ignore, cancelled: Callable[[], bool] = lambda: False) -> list[Record]:
    """Run planned jobs, each by the backend that it was planned for; one record per job, in order.

    Raises Cancelled, as `pipeline.run`.
    """
    records: dict[int, Record] = {}
    for name, backend in BACKENDS.items():
        mine = [index for index, job in enumerate(jobs) if _runner(job.plan) == name]
        if mine:
            made = backend.run([jobs[index] for index in mine], emit=emit, cancelled=cancelled)
            records |= dict(zip(mine, made, strict=True))
    return [records[index] for index in range(len(jobs))]


def _runner(plan: JobPlan) -> BackendName:
    if plan.comfyui is not None:
        return "comfyui"
    return "local" if plan.cluster is None else "ray"
