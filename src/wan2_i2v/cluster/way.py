"""One job's way through the cluster: which of its stages are done, running or ready. Imported by `dispatch`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from wan2_i2v import pipeline
from wan2_i2v.cluster import parcels
from wan2_i2v.pipeline import Fate
from wan2_i2v.plan import JobPlan
from wan2_i2v.schedule import PASSES
from wan2_i2v.timing import StageTime


def order(plan: JobPlan) -> tuple[str, ...]:
    """The stages that the cluster runs of a job, in order. Pictures are prepared and videos placed by the driver."""
    passes = tuple(taken.stage for taken in PASSES if plan.span(taken))
    return ("text", "image", *passes, "decode", "verify")


@dataclass(eq=False)
class Way:
    """`refs` are references to parcels in the object store, by artifact; `lost` counts the workers lost in each stage."""

    fate: Fate
    order: tuple[str, ...]
    done: set[str]
    running: set[str] = field(default_factory=set)
    refs: dict[str, Any] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, fate: Fate) -> Way:
        """From what is on the disk."""
        names = order(fate.job.plan)
        return cls(
            fate, names, {stage.name for stage in pipeline.STAGES if stage.name in names and stage.done(fate.job)}
        )

    @property
    def name(self) -> str:
        return self.fate.planned.plan.job_id

    @property
    def is_over(self) -> bool:
        return not self.running and (self.fate.error is not None or len(self.done) == len(self.order))

    def left(self) -> list[str]:
        """Stages that are not done."""
        return [] if self.fate.error is not None else [stage for stage in self.order if stage not in self.done]

    def ready(self) -> list[str]:
        """Stages that could run now: text and image need nothing of each other, every other all that comes before it."""
        return [stage for stage in self.left() if stage not in self.running and self._before(stage) <= self.done]

    def finish(self, stage: str, parcel: Any) -> None:
        """A stage's artifact is on the disk, and in the object store as `parcel`."""
        self.done.add(stage)
        self.refs[parcels.makes(stage)] = parcel
        needed = {artifact for left in self.left() for artifact in parcels.needs(left)}
        self.refs = {artifact: ref for artifact, ref in self.refs.items() if artifact in needed}

    def times(self) -> list[StageTime]:
        """What the stages that are left are planned to take."""
        planned = {time.stage: time for time in self.fate.planned.plan.times}
        return [planned.get(stage) or _unknown(stage) for stage in self.left()]

    def _before(self, stage: str) -> set[str]:
        return set() if stage == "image" else set(self.order[: self.order.index(stage)])


def _unknown(stage: str) -> StageTime:
    return StageTime(stage=stage, work=0.0, seconds=0.0, loading_s=0.0, basis="estimate")
