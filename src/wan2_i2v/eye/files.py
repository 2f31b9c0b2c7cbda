"""Verify any video file: container facts and everything that `clip` sees. Imported by doors.

Comes in: a path. Goes out: checks; a damaged file is a failed check, not an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wan2_i2v.errors import InvalidImage, InvalidRequest
from wan2_i2v.eye.clip import Examination, Expected, look
from wan2_i2v.eye.faces import Picture
from wan2_i2v.eye.opening import flattened
from wan2_i2v.media import reader
from wan2_i2v.media.reader import VideoFacts
from wan2_i2v.record import Check

PLAYABLE = ("yuv420p", "yuvj420p")
"""Pixel formats that every browser plays."""


@dataclass
class _Frames:
    """The frames of a file, upright; where they break off, `damage` says why."""

    path: Path
    rotation: int
    count: int = 0
    damage: str = ""

    def __iter__(self) -> Iterator[Picture]:
        turns = round(self.rotation / 90) % 4
        try:
            for frame in reader.frames(self.path):
                self.count += 1
                yield np.ascontiguousarray(np.rot90(frame, turns)) if turns else frame
        except InvalidRequest as error:
            self.damage = str(error)


def verify_file(
    path: Path,
    against: Path | None = None,
    expected: Expected | None = None,
    *,
    allow_speech: bool = False,
    allow_flashes: bool = False,
) -> Examination:
    """Examine a video, GIF, WebP or folder of PNG frames.

    Raises InvalidRequest when `path` does not exist, InvalidImage when `against` is no picture.
    """
    if not path.exists():
        raise InvalidRequest("video", str(path), "a file that exists", "Check the name.")
    start = None if against is None else _start(against)
    try:
        facts = reader.probe(path)
    except InvalidRequest as error:
        return Examination((_check("readable", False, str(error)),), None, (), (), 0.0)
    frames = _Frames(path, facts.rotation)
    seen = look(frames, facts.fps, start, expected, allow_speech=allow_speech, allow_flashes=allow_flashes)
    return replace(seen, checks=(*container_checks(facts, frames.count, frames.damage), *seen.checks))


def _start(against: Path) -> Picture:
    """The picture that the video is to start from, opened before the video is looked at."""
    try:
        return flattened(against)
    except InvalidImage as error:
        raise error.renamed("against") from error


def container_checks(facts: VideoFacts, decoded: int, damage: str) -> tuple[Check, ...]:
    """Is the file whole, and will it play everywhere? `decoded` frames came out before `damage`, if any."""
    whole = not damage and decoded == facts.frames and not facts.missing_s
    missing = f"{decoded} of {facts.frames} frames could be decoded" + (f": {damage}" if damage else "")
    if facts.missing_s:
        missing += f"; the last {facts.missing_s:.2f} s are missing. Copy or download it again"
    rate = f"{facts.fps:.3g} fps{' on average, variable' if facts.variable else ''}" if facts.fps else "no frame rate"
    size = f"{facts.width}×{facts.height}" + (f", turned by {facts.rotation}°" if facts.rotation else "")
    checks = [
        _check("readable", whole, f"all {decoded} frames can be decoded" if whole else missing),
        _check("container", True, f"{facts.container} {facts.codec} {facts.pix_fmt}, {size}, {rate}"),
    ]
    if facts.pix_fmt.startswith("yuv") and facts.pix_fmt not in PLAYABLE:
        checks.append(_check("playable", True, f"{facts.pix_fmt} does not play in every browser", doubt=True))
    return tuple(checks)


def _check(name: str, passed: bool, message: str, *, doubt: bool = False) -> Check:
    return Check(
        name=name, passed=passed, value=None, limit=None, message=message, state="unsure" if doubt else "judged"
    )
