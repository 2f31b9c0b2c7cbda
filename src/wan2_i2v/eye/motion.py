"""Does it move as asked? Checks of motion, frozen and repeated frames, and looping back. Imported by `clip`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wan2_i2v.eye import limits
from wan2_i2v.eye.series import LAG, Floats, Series
from wan2_i2v.record import Check

Flags = npt.NDArray[np.bool_]

STILL_MEAN, STILL_PEAK = 0.06, 0.35
"""Flow over LAG frames, % of the diagonal: mean and typical 95th percentile below which nothing moves. Frozen clips with
noise had at most 0.030 and 0.118, the slowest zoom 0.25 and 0.42."""
STILL_CHANGE = 0.35
"""Blurred luma by which a clip without flow may differ from its start: fades and light move this, noise does not."""
CALM_MEAN = 0.8
"""Mean flow that a clip may have of which stillness was asked: a slow push-in has 0.5, a pan 1.7."""
CALM_PEAK = 2.0

SAME = 0.25
"""Luma difference of two frames that show the same picture, after compression."""
SAME_SHARE = 0.06
"""... and share of what changes between two frames where the clip moves most."""
DOUBLED = 0.12
"""Share of the change around it (twice the usual at most) below which a frame repeats the one before."""
SHORTEST = 6
"""Frames from which freezes and repeats are told from chance."""
STUTTER = 2
"""Repeats from which motion stutters. Of 60 good clips of 9 frames 6 have one and none has two, of 120 with every second or third frame
repeated all have two (`benchmarks/duplicates.py`)."""
RUN = 3
"""Repeats in a row from which they are a freeze and not a duplicate."""

AWAY, AWAY_SHARE = 3.0, 0.2
"""Luma, and share of the picture's own spread of luma, by which a clip leaves its start before coming back is a loop."""


def motion_checks(series: Series, fps: float, expected: str | None) -> list[Check]:
    """All checks of this module. `expected`: "motion", "static", or None when nothing was asked."""
    still = is_still(series)
    return [
        _motion(series, still, expected),
        _stillness(series, expected),
        _freezes(series, fps, still),
        duplicates(series, fps, expected),
        _loop(series, fps),
    ]


def is_still(series: Series) -> bool:
    """Whether nothing moves at all; clips of at most LAG frames are judged by the difference of neighbours."""
    if len(series) < 2:
        return True
    if not len(series.flow):
        return bool(np.nanmax(series.step) < 0.25)
    return _stir(series) * limits.MOTION.fails < 1


def _stir(series: Series) -> float:
    """How much the clip moves, in units of what the stillest moving clip does; its inverse is judged."""
    change = float(np.percentile(series.soft, 95)) / STILL_CHANGE
    return max(float(series.flow.mean()) / STILL_MEAN, float(np.median(series.peak)) / STILL_PEAK, change)


def _motion(series: Series, still: bool, expected: str | None) -> Check:
    limit = limits.MOTION
    if len(series) < 2:
        return limit.unchecked("the clip has one frame")
    if expected != "motion":
        asked = "was not asked for" if expected is None else "was asked not to be there"
        return limit.unchecked(f"motion {asked}; the clip {'stands still' if still else 'moves'}")
    if not len(series.flow):
        return limit.check(2.0 if still else 0.0, "the clip moves", "nothing moves, though motion was asked for")
    flow = float(series.flow.mean())
    amount = f"in {LAG} frames things move by {flow:.2f} % of the diagonal"
    bad = f"nothing moves, though motion was asked for: {amount}" if still else f"hardly anything moves: {amount}"
    return limit.check(1 / max(_stir(series), 0.05), f"the clip moves: {amount}", bad)


def _stillness(series: Series, expected: str | None) -> Check:
    limit = limits.STILLNESS
    if expected != "static":
        return limit.unchecked("stillness was not asked for")
    if not len(series.flow):
        return limit.unchecked(f"the clip has fewer than {LAG + 1} frames")
    flow, peak = float(series.flow.mean()), float(np.median(series.peak))
    amount = f"in {LAG} frames things move by {flow:.2f} % of the diagonal"
    return limit.check(
        max(flow / CALM_MEAN, peak / CALM_PEAK),
        f"the clip is calm, as asked: {amount}",
        f"the clip moves, though stillness was asked for: {amount}",
    )


def _freezes(series: Series, fps: float, still: bool) -> Check:
    """The longest freeze, as a share of the clip."""
    limit = limits.FROZEN
    if still or len(series) < SHORTEST:
        return limit.unchecked(_why(still))
    longest = max(_runs(_frozen(series.step)), key=lambda run: run[1] - run[0], default=(0, 0))
    freeze = longest[1] - longest[0]
    return limit.check(
        freeze / len(series.step) if freeze >= RUN else 0.0,
        "the picture never stands still for long",
        f"the picture is frozen for {freeze / fps:.2f} s from {longest[0] / fps:.2f} s on",
        spans=(_seconds(longest, fps),),
    )


def duplicates(series: Series, fps: float, expected: str | None) -> Check:
    """The share of single repeats; of one alone, nothing is said, and of a clip that shall stand still neither."""
    limit = limits.DUPLICATES
    still = is_still(series)
    if expected == "static":
        return limit.unchecked("stillness was asked for")
    if still or len(series) < SHORTEST:
        return limit.unchecked(_why(still))
    repeated, count = repeats(series), len(series.step)
    told = f"{repeated} of {count} frames repeat the one before"
    return limit.check(
        repeated / count if repeated >= STUTTER else 0.0,
        told,
        f"{told}: motion stutters",
        spans=tuple(_seconds(run, fps) for run in _single(series)),
    )


def repeats(series: Series) -> int:
    """How many frames repeat the one before in the middle of motion, freezes left out."""
    return sum(end - begin for begin, end in _single(series))


def _single(series: Series) -> list[tuple[int, int]]:
    return [run for run in _runs(_doubled(series.step)) if run[1] - run[0] < RUN]


def _why(still: bool) -> str:
    return "nothing moves" if still else f"the clip has fewer than {SHORTEST} frames"


def _frozen(step: Floats) -> Flags:
    """Which frames show the same picture as the one before."""
    return step < min(SAME, SAME_SHARE * float(np.percentile(step, 90)))


def _doubled(step: Floats) -> Flags:
    """Which frames repeat the one before in the middle of motion: far less change than around them and than usual."""
    padded = np.pad(step, 2, mode="edge")
    around = np.max([padded[shift : shift + len(step)] for shift in (0, 1, 3, 4)], axis=0)
    return np.asarray(step < DOUBLED * np.minimum(around, np.percentile(step, 50) + np.percentile(step, 90)))


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """Begin and end (excluded) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(int), 0]))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _seconds(run: tuple[int, int], fps: float) -> tuple[float, float]:
    """A run of differences to the frame before, as the time of the frames involved."""
    return round(run[0] / fps, 3), round((run[1] + 1) / fps, 3)


def _loop(series: Series, fps: float) -> Check:
    """How much of the way from the start the clip comes back, in its last third; five frames have to agree."""
    away = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(series.away, 2, mode="edge"), 5), axis=1)
    tail = len(away) * 2 // 3
    left = max(AWAY, AWAY_SHARE * float(series.std[0]))
    if len(away) < 16 or away.max() < left:
        return limits.LOOP.check(0.0, "the clip does not come back to its start", "")
    nearest = tail + int(np.argmin(away[tail:]))
    farthest = float(away[:nearest].max())
    back = max(0.0, 1 - float(away[nearest]) / farthest) if farthest >= left else 0.0
    return limits.LOOP.check(
        back,
        "the clip does not come back to its start",
        f"the clip comes back to its start at {nearest / fps:.2f} s ({back:.0%} of the way)",
        spans=((round(nearest / fps, 3), round(len(away) / fps, 3)),),
    )
