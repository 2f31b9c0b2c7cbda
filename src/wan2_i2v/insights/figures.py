"""Figures from runs, each with its count and interval; nothing is claimed from fewer than LEAST runs. Pure."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wan2_i2v.insights.run import Run

Key = TypeVar("Key")

LEAST = 5
Z = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""
STEP_VARIANCE = 1 / 12
"""Of what a whole number rounds away (Sheppard)."""

GROUPS: dict[str, Callable[[Run], str]] = {
    "preset": lambda run: run.preset or "own prompt",
    "recipe": lambda run: run.recipe,
    "guidance": lambda run: run.guidance,
    "model": lambda run: run.model,
}
"""What success rates and ratings are told by."""


@dataclass(frozen=True)
class Share:
    """`passed` of `count`, with the 95 % Wilson interval (`low`, `high`) of the rate."""

    passed: int
    count: int

    @property
    def rate(self) -> float:
        return self.passed / self.count

    @property
    def low(self) -> float:
        return wilson(self.passed, self.count)[0]

    @property
    def high(self) -> float:
        return wilson(self.passed, self.count)[1]

    def told(self) -> str:
        return f"{self.rate:.0%} of {self.count} ({self.low:.0%}–{self.high:.0%})"


def wilson(passed: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927), within [0, 1]."""
    share, square = passed / count, Z * Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def student(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t (Cornish and Fisher's expansion; within 0.3 % of it from 4 degrees on)."""
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    return float(Z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1)))


@dataclass(frozen=True)
class Rate:
    """How often runs of one kind passed a check ("all checks": every one), among those in which it was judged."""

    by: str
    group: str
    check: str
    share: Share


def rates(runs: Sequence[Run], model: str | None = None) -> list[Rate]:
    """Success rates of checks by preset, recipe, guidance and model; of one model when it is named."""
    done = [run for run in runs if run.status == "done" and run.verdicts and model in (None, run.model)]
    found: list[Rate] = []
    for by, of in GROUPS.items():
        for group, mine in sorted(_grouped(done, of).items()):
            found += [Rate(by, group, check, share) for check, share in _shares(mine) if share.count >= LEAST]
    return found


def _shares(runs: Sequence[Run]) -> list[tuple[str, Share]]:
    counted: dict[str, list[bool]] = defaultdict(list)
    for run in runs:
        counted["all checks"].append(all(verdict.passed for verdict in run.verdicts))
        for verdict in run.verdicts:
            if verdict.state != "unchecked":
                counted[verdict.name].append(verdict.passed)
    return [(check, Share(sum(passed), len(passed))) for check, passed in counted.items()]


@dataclass(frozen=True)
class Size:
    """What is known of one size and length on one device: `fitted` runs whose memory sufficed from start to end.

    `predicted_gib` is what the plan computes, `peak_gib` the most that was measured (None where nothing was),
    `memory_gib` what the device has; `seconds` the median of a whole run.
    """

    device: str
    model: str
    residency: str
    width: int
    height: int
    model_frames: int
    fitted: Share
    predicted_gib: float
    peak_gib: float | None
    memory_gib: float
    seconds: float | None

    @property
    def verdict(self) -> str:
        """safe, fails or mixed, as measured."""
        if self.fitted.passed == self.fitted.count:
            return "safe"
        return "fails" if self.fitted.passed == 0 else "mixed"

    @property
    def measured(self) -> str:
        """The measured peak in words."""
        return "not measured" if self.peak_gib is None else f"{self.peak_gib:.1f} GiB"


def sizes(runs: Iterable[Run]) -> list[Size]:
    """Measured safe sizes per card beside the computed memory, from large to small."""
    groups = _grouped(
        [run for run in runs if run.fitted is not None],
        lambda run: (run.device, run.model, run.residency, run.width, run.height, run.model_frames),
    )
    found: list[Size] = []
    for (device, model, residency, width, height, frames), mine in groups.items():
        if len(mine) < LEAST:
            continue
        fitted = Share(sum(run.fitted is True for run in mine), len(mine))
        took = [sum(run.seconds.values()) for run in mine if run.status == "done"]
        predicted = statistics.median(run.predicted_gib for run in mine)
        peak = max((run.peak_gib for run in mine if run.peak_gib is not None), default=None)
        memory = max(run.memory_gib for run in mine)
        seconds = statistics.median(took) if took else None
        found.append(Size(device, model, residency, width, height, frames, fitted, predicted, peak, memory, seconds))
    return sorted(found, key=lambda size: (size.device, size.model, -size.width * size.height * size.model_frames))


@dataclass(frozen=True)
class Liking:
    """The user's ratings, 1 to 5, of one kind of run: mean and 95 % interval (Student's t, within 1 to 5).

    A rating stands for what is half a step around it, so equal ratings have an interval too.
    """

    by: str
    group: str
    count: int
    mean: float
    low: float
    high: float


def likings(runs: Iterable[Run]) -> list[Liking]:
    """Mean ratings by preset, recipe, guidance and model."""
    rated = [run for run in runs if run.rating is not None]
    found = []
    for by, of in GROUPS.items():
        for group, mine in sorted(_grouped(rated, of).items()):
            values = [run.rating for run in mine if run.rating is not None]
            if len(values) >= LEAST:
                spread = math.sqrt(statistics.variance(values) + STEP_VARIANCE)
                mean, half = statistics.fmean(values), student(len(values) - 1) * spread / math.sqrt(len(values))
                found.append(Liking(by, group, len(values), mean, max(1.0, mean - half), min(5.0, mean + half)))
    return found


def _grouped(runs: Iterable[Run], of: Callable[[Run], Key]) -> dict[Key, list[Run]]:
    groups: dict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        groups[of(run)].append(run)
    return dict(groups)
