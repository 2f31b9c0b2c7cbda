"""Look at a whole clip in one pass: `examine` gives the checks, `look` also what a report shows. Imported by doors and
stages.

Comes in: frames (height × width × 3, RGB, uint8) one at a time, of any number. Goes out: checks. Memory does not grow
with the clip, apart from some numbers per frame and a bounded number of thumbnails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from wan2_i2v.eye import limits
from wan2_i2v.eye.artefacts import artefact_checks
from wan2_i2v.eye.causes import explained
from wan2_i2v.eye.crowd import Crowd, Seen, mouth_check
from wan2_i2v.eye.faces import Picture
from wan2_i2v.eye.first import first_frame_check
from wan2_i2v.eye.motion import motion_checks
from wan2_i2v.eye.opening import flattened
from wan2_i2v.eye.series import WORK, Gatherer, Series, grey, one_thread, shrink
from wan2_i2v.record import Check

Expected = Literal["motion", "static"]

USUAL_FPS = 16.0
"""For clips that do not say; the rate that Wan2.2 A14B was trained at."""
THUMBNAIL = 240
THUMBNAILS = 32
"""Frames kept for the report are thinned out to at most this many."""


@dataclass(frozen=True)
class Examination:
    """What one pass saw. `thumbnails`: frame numbers with small pictures; `faces`: one entry per face."""

    checks: tuple[Check, ...]
    series: Series | None
    faces: tuple[Seen, ...]
    thumbnails: tuple[tuple[int, Picture], ...]
    fps: float

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def examine(
    frames: Iterable[Picture],
    fps: float | None,
    against: Picture | Image.Image | Path | None = None,
    expected: Expected | None = None,
    *,
    allow_speech: bool = False,
    allow_flashes: bool = False,
) -> tuple[Check, ...]:
    """The checks of a clip, always all of them in the same order; what cannot be looked at is "unchecked".

    `fps` None or 0: 16 is taken. `against` is the picture that the clip starts from. `expected` says what was asked for.
    """
    return look(frames, fps, against, expected, allow_speech=allow_speech, allow_flashes=allow_flashes).checks


def look(
    frames: Iterable[Picture],
    fps: float | None,
    against: Picture | Image.Image | Path | None = None,
    expected: Expected | None = None,
    *,
    allow_speech: bool = False,
    allow_flashes: bool = False,
) -> Examination:
    """`examine` with what its verdicts rest on."""
    rate = fps if fps is not None and fps > 0 else USUAL_FPS
    gatherer, crowd, album = Gatherer(), Crowd(rate), Album()
    first: Picture | None = None
    with one_thread():
        for index, frame in enumerate(frames):
            first = frame if first is None else first
            gatherer.see(frame)
            crowd.see(index, frame)
            album.see(index, frame)
        picture = None if against is None else flattened(against)
        checks = [first_frame_check(first, picture)]
        if first is None:
            return Examination(tuple(checks), None, (), (), rate)
        series = gatherer.series()
        faces = crowd.seen()
    checks += [
        *motion_checks(series, rate, expected),
        *artefact_checks(series, rate, None if picture is None else _look(picture), allow_flashes=allow_flashes),
        mouth_check(faces, len(series), crowd.uncounted, allow_speech=allow_speech),
    ]
    told = explained(checks)
    if allow_flashes:
        # After what follows from a flash is told from faults of its own.
        told = tuple(_as_asked(check) if check.name == limits.FLASH.name else check for check in told)
    return Examination(told, series, faces, album.pages(), rate)


def _as_asked(flash: Check) -> Check:
    if flash.passed:
        return flash
    return flash.model_copy(update={"passed": True, "message": f"{flash.message}, as asked", "remedy": None})


def _look(picture: Picture) -> tuple[float, float]:
    """Mean and spread of a picture's luma, 0 to 255."""
    luma = grey(shrink(picture, WORK))
    return float(luma.mean()), float(luma.std())


class Album:
    """Small copies of evenly spaced frames, thinned out as the clip gets longer."""

    def __init__(self) -> None:
        self._every = 1
        self._pages: list[tuple[int, Picture]] = []
        self._last: tuple[int, Picture] | None = None

    def see(self, index: int, frame: Picture) -> None:
        self._last = (index, frame)
        if index % self._every == 0:
            self._pages.append((index, shrink(frame, THUMBNAIL)))
        if len(self._pages) > THUMBNAILS:
            self._every *= 2
            self._pages = [page for page in self._pages if page[0] % self._every == 0]

    def pages(self) -> tuple[tuple[int, Picture], ...]:
        """The kept frames; the last frame of the clip is among them."""
        if self._last is not None and self._pages[-1][0] != self._last[0]:
            return (*self._pages, (self._last[0], shrink(self._last[1], THUMBNAIL)))
        return tuple(self._pages)
