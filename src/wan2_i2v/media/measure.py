"""Numbers of a clip's frames: brightness, motion, likeness to a picture. Imported by the verify stage. No torch.

One pass, a few small frames in memory. `docs/verification.md` says what the numbers are on good and bad clips.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media.reader import Frame

Luma = npt.NDArray[np.uint8]
"""height × width, 0 to 255."""

WORK_WIDTH = 320
"""Pixels; frames are brought to this width, so that a number means the same for every size."""

LAG = 8
"""Frames between the two that motion is measured on: from one frame to the next, noise moves as much as a slow zoom."""

SSIM_WIDTH = 640


@dataclass(frozen=True)
class Look:
    """Brightness (`mean`) and contrast (`std`) of a picture's luma, 0 to 255."""

    mean: float
    std: float


class Flow(NamedTuple):
    """What differs between frames LAG apart; all zero in a frozen clip.

    `mean` and `peak` are optical flow in % of the picture's diagonal: its mean over the clip, and the highest 95th
    percentile of a frame. `change` is the largest mean absolute difference of the blurred luma (0 to 255), which a fade
    moves and noise does not.
    """

    mean: float
    peak: float
    change: float


@dataclass(frozen=True)
class Motion:
    """`step`: the largest mean absolute luma difference (0 to 255) of two neighbouring frames.

    `flow` is None in a clip of at most LAG frames.
    """

    step: float
    flow: Flow | None


@dataclass(frozen=True)
class ClipMeasures:
    """What one pass over the frames saw; the `darkest` and the `flattest` of them. `motion` is None for one frame."""

    frames: int
    first: Frame
    darkest: float
    flattest: float
    motion: Motion | None


def look(frame: Frame) -> Look:
    return _look(_work_luma(frame))


def measure(frames: Iterable[Frame]) -> ClipMeasures:
    """Measure a clip in one pass.

    Raises InvalidRequest when there are no frames.
    """
    first: Frame | None = None
    looks: list[Look] = []
    window: deque[Luma] = deque(maxlen=LAG + 1)
    flows: list[Flow] = []
    steps: list[float] = []
    with one_thread():
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        for frame in frames:
            first = frame if first is None else first
            luma = _work_luma(frame)
            looks.append(_look(luma))
            if window:
                steps.append(_difference(window[-1], luma))
            window.append(luma)
            if len(window) == LAG + 1:
                flows.append(_movement(flow, window[0], luma))
    if first is None:
        raise InvalidRequest("video", "no frames", "at least one frame")
    return ClipMeasures(
        frames=len(looks),
        first=first,
        darkest=min(seen.mean for seen in looks),
        flattest=min(seen.std for seen in looks),
        motion=_motion(flows, steps),
    )


def ssim(a: Frame, b: Frame) -> float:
    """Structural similarity of the luma, at most 640 px wide; 1 is equal.

    Wang et al. 2004: Gaussian window 11 px, σ 1.5, K1 0.01, K2 0.03; the mean over the map.
    """
    x, y = (_resized(_luma(frame), min(SSIM_WIDTH, frame.shape[1])).astype(np.float64) for frame in (a, b))

    def blur(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5), dtype=np.float64)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(values.mean())


def psnr(a: Frame, b: Frame) -> float:
    """Peak signal-to-noise ratio over all pixels and channels, dB; 100 for equal pictures."""
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2))
    return 100.0 if error == 0 else min(100.0, float(10 * np.log10(255**2 / error)))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """DIS cuts the picture into one stripe per thread, so its result depends on their number."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _luma(frame: Frame) -> Luma:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _resized(luma: Luma, width: int) -> Luma:
    height = max(1, round(luma.shape[0] * width / luma.shape[1]))
    method = cv2.INTER_AREA if width < luma.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(luma, (width, height), interpolation=method), dtype=np.uint8)


def _work_luma(frame: Frame) -> Luma:
    return _resized(_luma(frame), WORK_WIDTH)


def _look(luma: Luma) -> Look:
    return Look(float(luma.mean()), float(luma.std()))


def _difference(a: Luma, b: Luma) -> float:
    return float(cv2.absdiff(a, b).mean())


def _movement(flow: cv2.DISOpticalFlow, a: Luma, b: Luma) -> Flow:
    """The flow from `a` to `b` alone."""
    vectors = flow.calc(a, b, None)
    length = np.hypot(vectors[..., 0], vectors[..., 1]) * (100 / np.hypot(*a.shape))
    blurred = (np.asarray(cv2.GaussianBlur(luma, (0, 0), 3), dtype=np.uint8) for luma in (a, b))
    return Flow(float(length.mean()), float(np.percentile(length, 95)), _difference(*blurred))


def _motion(flows: list[Flow], steps: list[float]) -> Motion | None:
    if not steps:
        return None
    if not flows:
        return Motion(max(steps), None)
    means, peaks, changes = zip(*flows, strict=True)
    return Motion(max(steps), Flow(float(np.mean(means)), max(peaks), max(changes)))
