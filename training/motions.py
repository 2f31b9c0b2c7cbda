"""What each motion does to a picture, as a formula: frame t from the picture, for any size.

Comes in: an RGB picture and a motion's name; goes out: frames. Speeds are in pixels per frame whatever
the size, so that what the experts learn at small sizes holds at larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

PAN = 0.25
"""Pixels per frame."""
ZOOM = 0.0016
"""Growth of scale per frame (natural logarithm)."""
TURN = 0.0018
"""Radians per frame."""
BEAT, SLOW_BEAT = 4.0, 4.0 * 10000 ** (1 / 12)
"""Frames per radian of what repeats: periods of 25 and 54 frames, those of two of the experts' clocks (`initial`)."""

Pixels = npt.NDArray[np.float32]
Grid = tuple[Pixels, Pixels]


@dataclass(frozen=True)
class Scene:
    """A picture, float32 RGB height × width × 3 in 0…255, with its coordinate grid."""

    picture: Pixels
    x: Pixels
    y: Pixels

    @property
    def centre(self) -> tuple[float, float]:
        return (self.picture.shape[1] - 1) / 2, (self.picture.shape[0] - 1) / 2


def scene(picture: npt.NDArray[np.uint8]) -> Scene:
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return Scene(picture.astype(np.float32), x, y)


def displacement(motion: str, s: Scene, t: int) -> Grid:
    """Where frame t shows which point of the picture: (x, y) grids in pixels."""
    return WARPS.get(motion, _still)(s, t)


def frame(motion: str, s: Scene, t: int) -> npt.NDArray[np.uint8]:
    """Frame t of the motion; frame 0 is the picture itself."""
    if t == 0:
        return s.picture.astype(np.uint8)
    x, y = displacement(motion, s, t)
    moved = cv2.remap(s.picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    light = LIGHTS.get(motion)
    return np.clip(moved if light is None else light(s, t, moved), 0, 255).astype(np.uint8)


def clip(motion: str, picture: npt.NDArray[np.uint8], times: Iterable[int]) -> npt.NDArray[np.uint8]:
    """The frames at `times`, frames × height × width × 3."""
    setting = scene(picture)
    return np.stack([frame(motion, setting, t) for t in times])


def _still(s: Scene, t: int) -> Grid:
    return s.x, s.y


def _pan(across: float, down: float) -> Callable[[Scene, int], Grid]:
    """The camera moves (across, down); the content moves the other way."""
    return lambda s, t: (s.x + across * PAN * t, s.y + down * PAN * t)


def _zoom(sign: float) -> Callable[[Scene, int], Grid]:
    def warp(s: Scene, t: int) -> Grid:
        factor, (cx, cy) = math.exp(-sign * ZOOM * t), s.centre
        return cx + (s.x - cx) * factor, cy + (s.y - cy) * factor

    return warp


def _rotate(sign: float) -> Callable[[Scene, int], Grid]:
    """Content turns clockwise for sign +1 (y points down)."""

    def warp(s: Scene, t: int) -> Grid:
        angle, (cx, cy) = -sign * TURN * t, s.centre
        c, n = math.cos(angle), math.sin(angle)
        return cx + c * (s.x - cx) - n * (s.y - cy), cy + n * (s.x - cx) + c * (s.y - cy)

    return warp


def _sway(amplitude: float, beat: float) -> Callable[[Scene, int], Grid]:
    """The middle of the picture swings sideways, its borders hold."""

    def warp(s: Scene, t: int) -> Grid:
        cx, cy = s.centre
        window = np.exp(-(((s.x - cx) / (0.6 * cx)) ** 2 + ((s.y - cy) / (0.6 * cy)) ** 2))
        return s.x + (amplitude * math.sin(t / beat) * window).astype(np.float32), s.y

    return warp


def _ripple(s: Scene, t: int) -> Grid:
    """A wave of 2.5 px that runs down the picture; it grows in over the first frames."""
    size = 2.5 * min(1.0, t / 8)
    phase = 3 * math.pi * s.y / s.picture.shape[0] - t / BEAT
    return s.x + size * np.sin(phase).astype(np.float32), s.y


def _shake(s: Scene, t: int) -> Grid:
    """The whole frame jolts by up to 3 px, twice a second; always the same way, so that it can be learned."""
    across, down = 3 * math.sin(2 * t / BEAT), 2 * math.sin(t / BEAT + 1)
    down -= 2 * math.sin(1)
    return s.x + np.float32(across), s.y + np.float32(down)


def _recoil(s: Scene, t: int) -> Grid:
    """A kick of 4 px at each shot, about one a second, that dies away."""
    return s.x + np.float32(4 * _pulse(t)), s.y - np.float32(2 * _pulse(t))


def _pulse(t: int, delay: float = 2.0, sharpness: float = 3.0) -> float:
    """Between 0 and 1, highest `delay` beats after the start and once in every 2π beats; exactly 0 at the start."""
    now, start = (math.exp(sharpness * (math.cos(beats - delay) - 1)) for beats in (t / BEAT, 0.0))
    return max(0.0, (now - start) / (1 - start))


def _flash(s: Scene, t: int, moved: Pixels) -> Pixels:
    """Light from the middle of the picture with each kick."""
    cx, cy = s.centre
    glow = np.exp(-(((s.x - cx) / cx) ** 2 + ((s.y - cy) / cy) ** 2))[..., None]
    return np.asarray(moved + 140 * _pulse(t) * glow * np.array([1.0, 0.9, 0.6], np.float32))


BURSTS = (
    (0.3, 0.3, 1.6, (1.0, 0.35, -0.15)),
    (0.7, 0.25, 3.7, (0.0, 0.6, 1.0)),
    (0.5, 0.5, 5.2, (0.95, 0.8, -0.25)),
)
"""Where bursts open, as shares of width and height, how many beats after the start, and their colours: what they take from
the other colours lets them be seen before a bright sky as well."""
CORE, GLOW, REACH, SWELLING = 130.0, 230.0, 0.2, 0.3
"""Levels of a burst's white middle and of its colour; its radius as a share of the picture, and the share by which that grows
within a beat."""


def _bursts(s: Scene, t: int, moved: Pixels) -> Pixels:
    """Balls of coloured light that open, swell and fade over the picture, in turn."""
    height, width = s.picture.shape[:2]
    light = np.zeros_like(moved)
    for across, down, delay, colour in BURSTS:
        age = (t / BEAT - delay + math.pi) % (2 * math.pi) - math.pi
        distance = np.hypot((s.x / width - across), (s.y / height - down)) / (REACH * (1 + SWELLING * age))
        core, ball = (np.exp(-(np.square(distance / part)))[..., None] for part in (0.5, 1.0))
        light += _pulse(t, delay) * (CORE * core + GLOW * ball * np.array(colour, np.float32))
    return np.asarray(moved + light)


def _gentle(s: Scene, t: int) -> Grid:
    """A quarter of a zoom and a small sway."""
    x, y = _zoom(0.4)(s, t)
    swayed, _ = _sway(1.2, SLOW_BEAT)(s, t)
    return x + (swayed - s.x), y


WARPS: dict[str, Callable[[Scene, int], Grid]] = {
    "gentle": _gentle,
    "pan_left": _pan(-1, 0),
    "pan_right": _pan(1, 0),
    "pan_up": _pan(0, -1),
    "pan_down": _pan(0, 1),
    "zoom_in": _zoom(1),
    "zoom_out": _zoom(-1),
    "rotate_cw": _rotate(1),
    "rotate_ccw": _rotate(-1),
    "turn": _rotate(1.3),
    "sway": _sway(4.0, SLOW_BEAT),
    "wave": _sway(6.0, BEAT),
    "ripple": _ripple,
    "shake": _shake,
    "combat": _recoil,
    "fireworks": _still,
}
LIGHTS: dict[str, Callable[[Scene, int, Pixels], Pixels]] = {"combat": _flash, "fireworks": _bursts}


def resolve(motion: str) -> str:
    """The motion that an open request turns into: a pan without direction goes right."""
    return "pan_right" if motion == "pan_any" else motion
