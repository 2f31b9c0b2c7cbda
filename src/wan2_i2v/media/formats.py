"""What a clip's file is: container, size, rate, quality. A leaf without PyAV; anyone may import it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.request import Container

SUFFIXES: dict[Container, str] = {"mp4": ".mp4", "webm": ".webm", "gif": ".gif", "webp": ".webp", "png": "-frames"}
"""What a file's name ends with; PNG frames lie in a folder."""

MAX_FPS: dict[Container, int] = {"gif": 50, "webp": 240, "mp4": 240, "webm": 240, "png": 240}
"""GIF counts in 1/100 s and players slow a delay of one down to ten."""

MIN_FPS = 0.01


@dataclass(frozen=True)
class ClipFormat:
    """One clip's file. `width` and `height` in pixels (even), `fps` in 1/s, `crf` lower is better (0 to 63).

    Raises InvalidRequest for a rate that the container cannot keep.
    """

    container: Container
    width: int
    height: int
    fps: float
    crf: int

    def __post_init__(self) -> None:
        if not MIN_FPS <= self.fps <= MAX_FPS[self.container]:
            raise InvalidRequest("fps", self.fps, f"{MIN_FPS:g} to {MAX_FPS[self.container]} for {self.container}")

    @property
    def rate(self) -> Fraction:
        """`fps` as an exact fraction; the rounded NTSC names mean what they stand for: 23.976 is 24000/1001."""
        ntsc = Fraction(round(self.fps) * 1000, 1001)
        if ntsc and abs(self.fps - ntsc) < 0.005:
            return ntsc
        return Fraction(self.fps).limit_denominator(1001)


def frame_name(index: int) -> str:
    """The file name of frame `index`, counted from 0, in a folder of PNG frames."""
    return f"frame-{index:05d}.png"
