"""Good clips and ways to spoil them, for the benchmark and the tests of the artefact checks.

Comes in: pictures (RGB, uint8) and seeds. Goes out: lists of frames, height × width × 3, uint8, and the name of the
check that has to find each kind of damage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.eye.faces import Picture

Clip = list[Picture]
Damage = Callable[[Clip, float, np.random.Generator], Clip]
STRENGTHS = ("weak", "medium", "strong")


def good_clip(photo: Picture, way: str, *, size: tuple[int, int], frames: int, seed: int = 0) -> Clip:
    """A clip that moves as good ones do. `way`: still, breathing, slow zoom, pan, fast pan, sway, water, mixed."""
    rng = np.random.default_rng(seed)
    canvas = _fitted(photo, size)
    return [_view(canvas, way, size, index / max(1, frames - 1), index, rng) for index in range(frames)]


WAYS = ("slow zoom", "pan", "fast pan", "sway", "water", "mixed")
"""Ways to move; "still" and "breathing" are for clips that shall not."""


def _fitted(photo: Picture, size: tuple[int, int]) -> Picture:
    """The photo cropped to 1.35 times the frame's (width, height), so that a camera can move in it."""
    width, height = round(size[0] * 1.35), round(size[1] * 1.35)
    scale = max(width / photo.shape[1], height / photo.shape[0])
    big = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (big.shape[0] - height) // 2, (big.shape[1] - width) // 2
    return np.ascontiguousarray(big[max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width])


def _view(
    canvas: Picture, way: str, size: tuple[int, int], phase: float, index: int, rng: np.random.Generator
) -> Picture:
    width, height = size
    y, x = np.meshgrid(np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32), indexing="ij")
    x, y = x - width / 2, y - height / 2
    zoom, shift = 1.0, 0.0
    if way in ("slow zoom", "mixed"):
        zoom = 1 + 0.06 * phase
    if way in ("pan", "mixed"):
        shift = 0.08 * (phase - 0.5)
    if way == "fast pan":
        shift = 0.3 * (phase - 0.5)
    x, y = x / zoom + shift * width, y / zoom
    bump = np.exp(-((x / (0.22 * width)) ** 2 + (y / (0.3 * height)) ** 2)).astype(np.float32)
    if way in ("sway", "mixed"):
        x = x + bump * 0.02 * width * np.sin(2 * np.pi * 0.7 * index / 16)
    if way == "breathing":
        y = y + bump * 0.004 * height * np.sin(2 * np.pi * 0.5 * index / 16)
    if way == "water":
        wave = np.sin(y / height * 40 + index * 0.6) * np.clip(y / height * 2, 0, 1)
        x = x + 0.008 * width * wave.astype(np.float32)
    centre = (canvas.shape[1] / 2, canvas.shape[0] / 2)
    maps = ((x + centre[0] + 0.37).astype(np.float32), (y + centre[1] + 0.37).astype(np.float32))
    frame = cv2.remap(canvas, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.clip(frame + 0.8 * rng.standard_normal(frame.shape), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Kind:
    """A way to spoil a clip, the check that has to name it, and three strengths. `ways` overrides the clip's motion, by strength."""

    name: str
    check: str
    damage: Damage
    strengths: tuple[float, float, float]
    expected: str | None = None
    ways: tuple[str, str, str] | None = None


def _toned(frame: Picture, gain: float | npt.NDArray[np.float32], offset: float = 0.0) -> Picture:
    return np.clip(frame.astype(np.float32) * gain + offset, 0, 255).round().astype(np.uint8)


def _ramp(clip: Clip) -> npt.NDArray[np.float64]:
    return np.linspace(0, 1, len(clip))


def _freeze(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    count = round(share * len(clip))
    start = int(rng.integers(1, len(clip) - count + 1))
    return [*clip[:start], *([clip[start]] * count), *clip[start + count :]][: len(clip)]


def _all_frozen(clip: Clip, noise: float, rng: np.random.Generator) -> Clip:
    return [_toned(clip[0], 1.0, noise * rng.standard_normal(clip[0].shape).astype(np.float32)) for _ in clip]  # type: ignore[arg-type]


def _unchanged(clip: Clip, strength: float, rng: np.random.Generator) -> Clip:
    return clip


def _black(clip: Clip, count: float, rng: np.random.Generator) -> Clip:
    start = int(rng.integers(1, len(clip) - int(count)))
    return [np.zeros_like(f) if start <= i < start + count else f for i, f in enumerate(clip)]


def _blank(clip: Clip, count: float, rng: np.random.Generator) -> Clip:
    start = int(rng.integers(1, len(clip) - int(count)))
    return [np.full_like(f, 128) if start <= i < start + count else f for i, f in enumerate(clip)]


def _repeat(clip: Clip, every: float, rng: np.random.Generator) -> Clip:
    """Every so-manieth frame shows the frame before."""
    return [clip[i - 1] if i % int(every) == 1 else f for i, f in enumerate(clip)]


def _flicker(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    return [_toned(frame, 1 + share * rng.choice([-1, 1]) * rng.uniform(0.5, 1)) for frame in clip]


def _noise_after(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """From frame 1 on, coarse noise as an undenoised latent decodes to, mixed in."""
    height, width = clip[0].shape[:2]
    out = [clip[0]]
    for frame in clip[1:]:
        coarse = rng.uniform(0, 255, (max(1, height // 8), max(1, width // 8), 3)).astype(np.float32)
        fine = rng.uniform(0, 255, (height, width, 3)).astype(np.float32)
        noise = 0.5 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + 0.5 * fine
        out.append(np.clip((1 - share) * frame + share * noise, 0, 255).astype(np.uint8))
    return out


def _grain(clip: Clip, sigma: float, rng: np.random.Generator) -> Clip:
    return [
        np.clip(f + sigma * r * rng.standard_normal(f.shape), 0, 255).astype(np.uint8)
        for f, r in zip(clip, _ramp(clip), strict=True)
    ]


def _cut(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """From the middle on another picture: the same mirrored, enlarged and toned by `share`."""
    middle = len(clip) // 2
    height, width = clip[0].shape[:2]

    def other(frame: Picture) -> Picture:
        cropped = frame[: round(height * (1 - 0.4 * share)), : round(width * (1 - 0.4 * share))]
        return _toned(cv2.resize(cropped, (width, height))[:, ::-1], 1 - 0.15 * share)

    return [f if i < middle else other(f) for i, f in enumerate(clip)]


def _flash(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    start = int(rng.integers(3, len(clip) - 4))
    return [_toned(f, 1 - share, 255 * share) if start <= i < start + 2 else f for i, f in enumerate(clip)]


def _blur(clip: Clip, sigma: float, rng: np.random.Generator) -> Clip:
    return [
        f if r == 0 else np.asarray(cv2.GaussianBlur(f, (0, 0), sigma * r), dtype=np.uint8)
        for f, r in zip(clip, _ramp(clip), strict=True)
    ]


def _soft_after(clip: Clip, sigma: float, rng: np.random.Generator) -> Clip:
    return [clip[0], *(np.asarray(cv2.GaussianBlur(f, (0, 0), sigma), dtype=np.uint8) for f in clip[1:])]


def _tint(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    sign = rng.choice([-1, 1])
    direction = np.array([[1, 0, -1], [0, 1, -1], [1, -1, 0]][int(rng.integers(3))], dtype=np.float32) * sign
    return [_toned(f, 1 + share * r * direction) for f, r in zip(clip, _ramp(clip), strict=True)]  # type: ignore[arg-type]


def _saturate(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    def one(frame: Picture, amount: float) -> Picture:
        value = frame.astype(np.float32)
        mean = value.mean(axis=2, keepdims=True)
        return np.clip(mean + (value - mean) * (1 + amount), 0, 255).round().astype(np.uint8)

    return [one(f, share * r) for f, r in zip(clip, _ramp(clip), strict=True)]


def _gain(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    return [_toned(f, 1 + share * r) for f, r in zip(clip, _ramp(clip), strict=True)]


def _to_white(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    return [_toned(f, 1 - share * r, 255 * share * r) for f, r in zip(clip, _ramp(clip) ** 2, strict=True)]


def _to_black(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    return [_toned(f, 1 - share * r) for f, r in zip(clip, _ramp(clip) ** 2, strict=True)]


def _loop(clip: Clip, back: float, rng: np.random.Generator) -> Clip:
    """Goes on to the middle and returns; `back` is the share of the way."""
    half = len(clip) // 2
    there = clip[: half + 1]
    end = round(half * (1 - back))
    again = np.linspace(half, end, len(clip) - half).round().astype(int)[1:]
    return [*there, *(clip[i] for i in again)]


def _shifted_start(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    width = clip[0].shape[1]
    return [np.roll(f, round(share * width), axis=1) for f in clip]


def _other_start(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """The clip starts from a picture mixed with its mirror image."""
    return [
        np.asarray(cv2.addWeighted(f, 1 - share, np.ascontiguousarray(f[:, ::-1]), share, 0), dtype=np.uint8)
        for f in clip
    ]


KINDS = (
    Kind("frozen stretch", "frozen", _freeze, (0.15, 0.4, 0.8)),
    Kind("frozen clip", "motion", _all_frozen, (3.0, 1.0, 0.0), "motion", ("still", "still", "still")),
    Kind("camera in a static clip", "stillness", _unchanged, (0, 0, 0), "static", ("slow zoom", "pan", "fast pan")),
    Kind("black frames", "black", _black, (1, 3, 8)),
    Kind("blank frames", "blank", _blank, (1, 3, 8)),
    Kind("duplicate frames", "duplicates", _repeat, (6, 3, 2)),
    Kind("flicker", "flicker", _flicker, (0.02, 0.06, 0.15)),
    Kind("noise after frame 0", "noise", _noise_after, (0.12, 0.4, 0.9)),
    Kind("growing grain", "noise", _grain, (6, 16, 32)),
    Kind("cut", "cut", _cut, (0.3, 0.7, 1.0)),
    Kind("flash", "flash", _flash, (0.15, 0.4, 0.9)),
    Kind("growing blur", "blur", _blur, (1.0, 2.5, 5.0)),
    Kind("soft after frame 0", "blur", _soft_after, (0.8, 1.6, 3.0)),
    Kind("tint", "colour_drift", _tint, (0.08, 0.22, 0.4)),
    Kind("fading colours", "saturation_drift", _saturate, (-0.2, -0.6, -0.95)),
    Kind("burning colours", "saturation_drift", _saturate, (0.2, 0.8, 1.6)),
    Kind("brightening", "brightness_drift", _gain, (0.12, 0.4, 0.7)),
    Kind("darkening", "brightness_drift", _gain, (-0.12, -0.4, -0.7)),
    Kind("fade to white", "fade_to_white", _to_white, (0.3, 0.65, 0.95)),
    Kind("fade to black", "fade_to_black", _to_black, (0.3, 0.65, 0.95)),
    Kind("loops back", "loop", _loop, (0.5, 0.9, 1.0), None, ("slow zoom", "pan", "fast pan")),
    Kind("shifted start", "first_frame", _shifted_start, (0.01, 0.04, 0.1)),
    Kind("other start", "first_frame", _other_start, (0.15, 0.6, 0.9)),
)
