"""What happened: verification verdicts and the record of a job. A leaf without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from wan2_i2v.plan import JobPlan


class Check(BaseModel):
    """One check of the finished file. `value` against `limit` decides `passed`; `message` says it in one sentence."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float | str | None
    limit: float | str | None
    message: str


class Verification(BaseModel):
    """All checks of one video."""

    model_config = ConfigDict(frozen=True)

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


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
    versions: dict[str, str] = {}
