"""Does it look right all the way? Checks of light, colour, noise, blur and cuts. Imported by `clip`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from wan2_i2v.eye import limits
from wan2_i2v.eye.series import REACH, Floats, Series
from wan2_i2v.record import Check

DARKEST, FLATTEST = 10.0, 4.0
"""Mean and spread of luma below which a frame is black or blank, unless the clip starts so: then this share of it."""
OF_START = 0.5
WHITE = 200.0
"""Mean luma from which a frame without contrast inside a flash is the flash itself."""
SPIKE = 8.0
"""Luma difference below which no change between two frames is a cut."""
CONTENT = 5.0
"""The same for coarse luma brought to the brightness and contrast of the frame before."""
RETURNS = 0.5
"""A flash is over when a frame is again so much more like the one before it than the flash is."""
LIT_FOR = 4
"""Anchors, of LAG frames each, for which colour and brightness have to be off where light that comes and goes was asked for."""
AFTERGLOW = 2 * REACH
"""Frames within which the brightness of a flash has gone back, when what it shows has moved on meanwhile."""


Flags = npt.NDArray[np.bool_]


def artefact_checks(
    series: Series, fps: float, start: tuple[float, float] | None = None, *, allow_flashes: bool = False
) -> list[Check]:
    """All checks of this module. `start`: mean and spread of luma of the picture that the clip starts from.

    With `allow_flashes`, light that comes at once on a part of the picture is no cut and no drift, however long it stays, and
    drift is what stays longer than light that comes and goes.
    """
    jumps = _jumps(series, lit=allow_flashes)
    dark, flat = _empty(series, jumps, start)
    path = _path(series, jumps)
    return [
        *_empty_checks(dark, flat, fps),
        _flicker(series),
        _noise(series, fps),
        *_jump_checks(series, jumps, fps),
        _blur(path, series, fps),
        *_drifts(path, series, lit=allow_flashes),
    ]


def _empty(series: Series, jumps: _Jumps, start: tuple[float, float] | None) -> tuple[Flags, Flags]:
    """Which frames are black, and which show one colour; a white flash is a flash.

    A dark picture may give a dark clip; a clip whose picture is not known and that begins without contrast may not.
    """
    mean, std = start or (float(series.mean[0]), float(series.std[0]))
    dark = min(DARKEST, OF_START * mean) if start or std > FLATTEST else DARKEST
    flat = min(FLATTEST, OF_START * std)
    black = series.mean < dark
    flash = np.zeros(len(series), dtype=bool)
    for begin, end in jumps.flashes:
        flash[begin:end] = series.mean[begin:end] > WHITE
    return black, (series.std < flat) & ~black & ~flash


def _empty_checks(black: Flags, blank: Flags, fps: float) -> list[Check]:
    return [
        limits.BLACK.check(
            float(black.sum()), "no frame is black", f"{black.sum()} frames are black", spans=_spans(black, fps)
        ),
        limits.BLANK.check(
            float(blank.sum()), "no frame is empty", f"{blank.sum()} frames show one colour", spans=_spans(blank, fps)
        ),
    ]


def _spans(flags: Flags, fps: float) -> limits.Spans:
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(int), 0]))
    return tuple((round(a / fps, 3), round(b / fps, 3)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _flicker(series: Series) -> Check:
    """Brightness that jumps to and fro: half its typical second difference, % of the clip's brightness."""
    if len(series) < 6:
        return limits.FLICKER.unchecked("the clip has fewer than 6 frames")
    level = max(float(np.median(series.mean)), DARKEST)
    value = 50 * float(np.median(np.abs(np.diff(series.mean[1:], 2)))) / level
    return limits.FLICKER.check(
        value, "brightness is steady from frame to frame", f"brightness jumps by {value:.1f} % from frame to frame"
    )


def _noise(series: Series, fps: float) -> Check:
    """Fine noise beyond that of frame 0, grey levels; the worst eighth of the clip."""
    rise = series.noise - series.noise[0]
    worst = _worst(rise)
    begin = int(np.argmax(rise > limits.NOISE.fails))
    return limits.NOISE.check(
        max(0.0, worst),
        "the clip is no noisier than its first frame",
        f"noise rises by {worst:.1f} grey levels over frame 0",
        spans=((round(begin / fps, 3), round(len(series) / fps, 3)),),
    )


def _blur(path: Floats, series: Series, fps: float) -> Check:
    """Share of frame 0's sharpness that is lost along the motion, beyond what a loss of contrast takes."""
    kept = np.exp(path[:, 5] - 2 * np.minimum(path[:, 4], 0))
    lost = _lasting(1 - kept)
    anchors = np.array([0, *(link.frame for link in series.links)])
    begin = int(anchors[np.argmax(1 - kept > limits.BLUR.fails)])
    return limits.BLUR.check(
        max(0.0, lost),
        f"the picture loses at most {max(0.0, lost):.0%} of frame 0's sharpness",
        f"the picture goes soft: it loses {lost:.0%} of frame 0's sharpness",
        spans=((round(begin / fps, 3), round(len(series) / fps, 3)),),
    )


def _worst(values: Floats) -> float:
    """The highest of the medians over eighths of the clip."""
    width = max(1, len(values) // 8)
    starts = range(0, max(1, len(values) - width + 1), max(1, width // 2))
    return max(float(np.median(values[start : start + width])) for start in starts)


@dataclass(frozen=True)
class _Jumps:
    """Sudden changes: frames where a cut is, flashes from a frame to the one after, and each frame's change over the
    usual."""

    cuts: tuple[int, ...]
    flashes: tuple[tuple[int, int], ...]
    lights: tuple[int, ...]
    """Frames where light comes or goes that was asked for."""
    ratio: Floats
    content: Floats
    """`ratio` without what a change of brightness and contrast explains, and without fine detail."""


def _jumps(series: Series, *, lit: bool) -> _Jumps:
    """Changes that are far above the usual: a flash goes back, a cut does not and shows other content.

    A change of brightness that stays is neither; it is drift, or light where that was asked for (`lit`).
    """
    ratio = _over_usual(np.r_[0.0, series.step], SPIKE)
    content = _over_usual(series.content if lit else series.jump, CONTENT)
    flashes: list[tuple[int, int]] = []
    cuts: list[int] = []
    lights: list[int] = []
    for frame in (int(index) for index in np.flatnonzero(ratio > limits.CUT.fails)):
        if any(begin < frame <= end for begin, end in flashes):
            continue
        end = _flash_end(series, frame)
        if end is not None:
            flashes.append((frame, end))
        elif content[frame] > limits.CUT.fails:
            cuts.append(frame)
        elif lit:
            lights.append(frame)
    return _Jumps(tuple(cuts), tuple(flashes), tuple(lights), ratio, content)


def _over_usual(change: Floats, least: float) -> Floats:
    """Each change over the typical one; 0 for those of at most `least` grey levels."""
    usual = float(np.median(change[1:])) + 1 if len(change) > 1 else 1.0
    return np.where(change > least, change / usual, 0.0)


def _jump_checks(series: Series, jumps: _Jumps, fps: float) -> list[Check]:
    if len(series) < 6:
        return [limit.unchecked("the clip has fewer than 6 frames") for limit in (limits.CUT, limits.FLASH)]
    calm = float(jumps.content[jumps.content <= limits.CUT.fails].max())
    begins = [begin for begin, _ in jumps.flashes]
    return [
        limits.CUT.check(
            max((float(jumps.content[frame]) for frame in jumps.cuts), default=calm),
            "no sudden cut",
            f"the picture changes at once at {_times(jumps.cuts, fps)}",
            spans=tuple((round((f - 1) / fps, 3), round((f + 1) / fps, 3)) for f in jumps.cuts),
        ),
        limits.FLASH.check(
            max((float(jumps.ratio[frame]) for frame in begins), default=0.0),
            "no flash",
            f"the picture flashes at {_times(begins, fps)}",
            spans=tuple((round(begin / fps, 3), round(end / fps, 3)) for begin, end in jumps.flashes),
        ),
    ]


def _times(frames: Sequence[int], fps: float) -> str:
    listed = ", ".join(f"{frame / fps:.2f} s" for frame in frames[:4])
    return listed + (f" and {len(frames) - 4} more times" if len(frames) > 4 else "")


def _flash_end(series: Series, frame: int) -> int | None:
    """The frame after `frame` that looks again like the one before it, within REACH frames."""
    jump = series.back[0, frame]
    for apart in range(1, REACH):
        later = frame + apart
        if later < len(series) and series.back[apart, later] < RETURNS * jump:
            return later
    return _glow_end(series, frame)


def _glow_end(series: Series, frame: int) -> int | None:
    """The same by brightness alone: a flash in which the picture moves on, by a recoil say, never looks again as before."""
    before = series.mean[frame - 1]
    rise = series.mean[frame] - before
    if rise < SPIKE:
        return None
    after = series.mean[frame + 1 : frame + AFTERGLOW] - before
    gone = np.flatnonzero(np.abs(after) < RETURNS * rise)
    return frame + 1 + int(gone[0]) if gone.size else None


def _drifts(path: Floats, series: Series, *, lit: bool) -> list[Check]:
    """Colour, saturation and brightness that wander along the clip, and fades."""
    lasting = _lasting_long if lit else _lasting
    light, saturation, contrast = path[:, 0], path[:, 3], path[:, 4]
    hue = lasting(np.hypot(path[:, 1], path[:, 2]))
    brightness, vivid = lasting(np.abs(light)), lasting(np.abs(saturation))
    lost = 1 - np.exp(np.minimum(contrast, 0))
    white = np.minimum(lost, light / max(100 - series.light, 1.0))
    black = np.minimum(lost, -light / max(series.light, 1.0))
    way = "fade" if saturation[np.argmax(np.abs(saturation))] < 0 else "burn"
    drifting = f"colours drift by {hue:.1f} Lab units"
    brightening = f"brightness drifts by {brightness:.1f} of 100"
    return [
        limits.COLOUR_DRIFT.check(hue, drifting, f"{drifting}: the picture takes on a tint"),
        limits.SATURATION_DRIFT.check(
            vivid, "colours keep their strength", f"colours {way}: chroma changes by a factor of {np.exp(vivid):.1f}"
        ),
        limits.BRIGHTNESS_DRIFT.check(brightness, brightening, brightening),
        _fade(limits.FADE_TO_WHITE, lasting(white), "white"),
        _fade(limits.FADE_TO_BLACK, lasting(black), "black"),
    ]


def _path(series: Series, jumps: _Jumps) -> Floats:
    """Where each anchor is against frame 0: light, green_red, blue_yellow, saturation, contrast, sharpness.

    What happens in a cut, a flash or light that was asked for is no drift, unless it sets frame 0 apart from all that follow."""
    edges = (at for flash in jumps.flashes for at in flash)
    sudden = [frame for frame in (*jumps.cuts, *jumps.lights, *edges) if frame > 1]
    steps = [
        (0.0,) * 6
        if any(link.begin < frame <= link.frame for frame in sudden)
        else (link.light, link.green_red, link.blue_yellow, link.saturation, link.contrast, link.sharpness)
        for link in series.links
    ]
    return np.vstack([np.zeros((1, 6)), np.cumsum(np.array(steps, dtype=np.float64).reshape(-1, 6), axis=0)])


def _lasting(path: Floats) -> float:
    """The highest level that holds for two anchors or till the end, so that a flash on one anchor is no drift."""
    return float(np.r_[np.minimum(path[1:], path[:-1]), path[-1]].max())


def _lasting_long(path: Floats) -> float:
    """The highest level that holds for LIT_FOR anchors, or for all that there are after frame 0."""
    after = path[1:] if len(path) > 1 else path
    return float(sliding_window_view(after, min(LIT_FOR, len(after))).min(axis=1).max())


def _fade(limit: limits.Limit, share: float, colour: str) -> Check:
    return limit.check(
        max(0.0, share), f"no fade to {colour}", f"the picture fades to {colour} ({share:.0%} of the way)"
    )
