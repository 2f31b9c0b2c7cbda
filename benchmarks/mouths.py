"""Synthetic mouths on real faces: clips whose answer is known, for the benchmark and the tests of the mouth check.

Comes in: a photo (RGB, uint8) and the face in it. Goes out: frames. The lower lip and the chin are warped down and the
gap is dark; nuisances move, turn, light, blur or compress the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.eye.faces import Face, Picture

Floats = npt.NDArray[np.float32]
Motion = Callable[[float, float], float]
"""Seconds and length of the clip in seconds to the share of the amplitude, 0 to 1."""

GULP_S = 0.375


def talk(t: float, length: float) -> float:
    """Three syllables a second."""
    return 0.5 - 0.5 * float(np.cos(2 * np.pi * 3 * t))


def slow(t: float, length: float) -> float:
    """Opens once, over the whole clip."""
    return t / length


def brief(t: float, length: float) -> float:
    """Opens and closes once, in the middle."""
    phase = (t - length / 2) / GULP_S
    return 0.5 + 0.5 * float(np.cos(2 * np.pi * phase)) if abs(phase) < 0.5 else 0.0


def closed(t: float, length: float) -> float:
    return 0.0


MOTIONS: dict[str, Motion] = {"talk": talk, "slow": slow, "brief": brief, "closed": closed}


@dataclass(frozen=True)
class Scene:
    """What happens in a clip. `amplitude` in shares of the face's height; nuisances at full strength when 1."""

    motion: str = "closed"
    amplitude: float = 0.0
    skew: float = 0.0
    """Where the mouth opens most, in half widths off its middle."""
    pan: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0
    flicker: float = 0.0
    noise: float = 0.0
    blur: float = 0.0


PAN, ZOOM, ROLL, YAW, FLICKER, NOISE, BLUR = 0.15, 0.2, 8.0, 8.0, 0.10, 4.0, 0.01
"""Full strength: shares of the frame (pan, zoom), degrees either way (roll, yaw), share of brightness (flicker), grey
levels (noise), share of the face's height (blur)."""


def clip(
    photo: Picture, face: Face, scene: Scene, *, height: float, frames: int, fps: float, seed: int = 0
) -> Iterator[Picture]:
    """Frames in which the face is `height` pixels high."""
    rng = np.random.default_rng(seed)
    side = int(max(192, round(height * 2.2 / 16) * 16))
    motion = MOTIONS[scene.motion]
    for index in range(frames):
        phase, seconds = index / max(1, frames - 1), index / fps
        opening = scene.amplitude * motion(seconds, frames / fps)
        frame = _drawn(photo, face, scene, _Pose(height, side, phase, opening))
        yield _lit(frame, scene, height, rng, phase)


@dataclass(frozen=True)
class _Pose:
    height: float
    side: int
    phase: float
    opening: float


def _drawn(photo: Picture, face: Face, scene: Scene, pose: _Pose) -> Picture:
    """One frame, by looking up where each of its pixels lies in the photo."""
    u, v = _face_coordinates(pose, scene)
    u, v = _turned(u, v, np.deg2rad(scene.yaw * YAW) * np.sin(2 * np.pi * pose.phase))
    v, gap = _opened(u, v, face, scene.skew, pose.opening)
    mouth = (face.points[13] + face.points[14]) / 2
    cos, sin = np.cos(face.roll), np.sin(face.roll)
    x = mouth[0] + face.height * (cos * u - sin * v)
    y = mouth[1] + face.height * (sin * u + cos * v)
    scale = pose.height / face.height
    source = photo if scale > 0.7 else cv2.GaussianBlur(photo, (0, 0), 0.4 / scale)
    frame = cv2.remap(
        source, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    dark = np.array([38, 14, 14], dtype=np.float32)
    return (frame * (1 - gap[..., None]) + dark * gap[..., None]).round().astype(np.uint8)


def _face_coordinates(pose: _Pose, scene: Scene) -> tuple[Floats, Floats]:
    """Right and down of the mouth in face heights, for every pixel of the frame."""
    y, x = np.meshgrid(np.arange(pose.side), np.arange(pose.side), indexing="ij")
    zoom = 1 + scene.zoom * ZOOM * pose.phase
    shift = scene.pan * PAN * pose.side * (pose.phase - 0.5)
    turn = np.deg2rad(scene.roll * ROLL) * np.sin(2 * np.pi * pose.phase)
    px, py = (x - pose.side / 2 - shift) / zoom, (y - pose.side * 0.62) / zoom
    u, v = np.cos(turn) * px + np.sin(turn) * py, -np.sin(turn) * px + np.cos(turn) * py
    return (u / pose.height).astype(np.float32), (v / pose.height).astype(np.float32)


def _turned(u: Floats, v: Floats, yaw: float) -> tuple[Floats, Floats]:
    """A head turned by `yaw` radians: an ellipsoid in front of a flat background."""
    depth = 0.4 * np.sqrt(np.maximum(0, 1 - (u / 0.62) ** 2 - ((v + 0.25) / 0.85) ** 2))
    return ((u - depth * np.sin(yaw)) / np.cos(yaw)).astype(np.float32), v


def _opened(u: Floats, v: Floats, face: Face, skew: float, opening: float) -> tuple[Floats, Floats]:
    """Where the pixels of an opened mouth come from, and how dark the gap makes them, 0 to 1."""
    half = float(np.hypot(*(face.points[61] - face.points[291]))) / face.height / 2
    centre = skew * half
    lips = np.maximum(0, 1 - ((u - centre) / (0.95 * half)) ** 2) * opening
    jaw = np.exp(-(((u - centre) / (1.5 * half)) ** 2) * 0.7)
    chin = 0.33
    jaw = jaw * np.clip(1 - (v - chin) / 0.2, 0, 1) * opening
    below = np.clip(v / 0.01, 0, 1)
    gap = below * np.clip((lips - v) / 0.012, 0, 1) * (lips > 0.004)
    moved = np.where(v > 0, np.maximum(v - np.maximum(jaw, lips), 0), v)
    return moved.astype(np.float32), gap.astype(np.float32)


def _lit(frame: Picture, scene: Scene, height: float, rng: np.random.Generator, phase: float) -> Picture:
    value = frame.astype(np.float32)
    if scene.blur:
        value = cv2.GaussianBlur(value, (0, 0), max(0.05, scene.blur * BLUR * height * phase))
    value = value * (1 + scene.flicker * FLICKER * rng.uniform(-1, 1))
    value = value + scene.noise * NOISE * rng.standard_normal(frame.shape)
    return np.clip(value.round(), 0, 255).astype(np.uint8)
