"""What happened: verification verdicts and the record of a job. A leaf without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from wan2_i2v.plan import JobPlan

State = Literal["judged", "unsure", "unchecked"]
Remedy = Literal["next-seed", "mouth-negative", "stronger-guidance", "official-recipe"]


class Margin(BaseModel):
    """What a limit was measured on: the worst value of good clips, the mildest of clips that it has to find."""

    model_config = ConfigDict(frozen=True)

    good: float
    bad: float


class Check(BaseModel):
    """One check of the finished file. `value` against `limit` decides `passed`; `message` says it in one sentence.

    `state` tells a verdict from a doubt: "unsure" is near the limit, "unchecked" could not be looked at; neither fails a
    clip. `spans` are the seconds (begin, end) in which the trouble shows; `remedy` is what to try in another run.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float | str | None
    limit: float | str | None
    message: str
    state: State = "judged"
    margin: Margin | None = None
    spans: tuple[tuple[float, float], ...] = ()
    remedy: Remedy | None = None


class Verification(BaseModel):
    """All checks of one video."""

    model_config = ConfigDict(frozen=True)

    checks: tuple[Check, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


class Recovery(BaseModel):
    """Memory ran out in `stage` at `step` (1-based; 0 while loading the model) and the stage went on in a leaner way.

    `before` and `after` say how the work was held and done; `reason` is the error's own text.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    step: int
    before: str
    after: str
    reason: str


class Attempt(BaseModel):
    """One of several clips that were made for a job: `number` from 1, with `changes` against the first by `remedy`.

    `score` is lower the better; `video` is kept in the job's folder. `error` instead, where there is no clip.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    seed: int
    remedy: Remedy | None
    changes: str
    passed: bool
    score: float | None
    failures: tuple[str, ...]
    seconds: float
    video: str | None
    error: dict[str, Any] | None = None
    chosen: bool = False


class Record(BaseModel):
    """The outcome of one job: `status` done means that the video exists, whole and looked at."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    status: Literal["done", "failed"]
    plan: JobPlan
    video: str | None = None
    verification: Verification | None = None
    error: dict[str, Any] | None = None
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    """GiB of the device's memory that stages were measured to take."""
    recoveries: tuple[Recovery, ...] = ()
    versions: dict[str, str] = {}
    attempts: tuple[Attempt, ...] = ()
