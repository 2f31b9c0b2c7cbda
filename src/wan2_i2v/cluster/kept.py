"""Models that stay open between the tasks of a worker, so that the next clip of the same pool loads nothing.

Comes in: a stage and a plan. Goes out: its model, opened before or now. Several are kept as long as the peaks of their stages
fit into the card together; else the one longest unused is closed. Whatever goes wrong closes them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from wan2_i2v.memory import GIB
from wan2_i2v.placement import pool_of
from wan2_i2v.plan import JobPlan
from wan2_i2v.stages.base import Stage, peak_of

SHARE = 0.95
"""Of a card's memory: the rest is left free against fragmentation."""


@dataclass(frozen=True)
class _Open:
    model: Any
    closing: contextlib.ExitStack
    gib: float


class Kept:
    """The open models of one process, the longest unused first."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Open] = {}

    @contextlib.contextmanager
    def lent(self, stage: Stage, plan: JobPlan) -> Iterator[Any]:
        """The model of a stage, for one task."""
        key = (pool_of(stage.name), stage.shares(plan))
        try:
            if key not in self._open:
                self._make_room(plan, _gib(stage, plan))
                with contextlib.ExitStack() as opening:
                    model = opening.enter_context(stage.model(plan))
                    self._open[key] = _Open(model, opening.pop_all(), _gib(stage, plan))
            self._open[key] = self._open.pop(key)
            yield self._open[key].model
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._open:
            self._close(next(iter(self._open)))

    def _make_room(self, plan: JobPlan, gib: float) -> None:
        # A processor's memory belongs to everyone on its machine: only one model is kept there.
        room = plan.cluster.device.vram_bytes / GIB * SHARE if plan.cluster is not None else 0.0
        while self._open and gib + sum(one.gib for one in self._open.values()) > room:
            self._close(next(iter(self._open)))

    def _close(self, key: Hashable) -> None:
        self._open.pop(key).closing.close()


def _gib(stage: Stage, plan: JobPlan) -> float:
    peak = peak_of(plan, stage.name)
    return 0.0 if peak is None else peak.memory_gib
