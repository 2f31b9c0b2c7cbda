"""Does a mouth move? Points hold the face still, the mouth's pixels judge. Imported by `clip`; one face per `MouthJudge`.

Lip distances from the points are not enough: the mesh smooths lips, and a turning head moves them as much as speech. So
each frame is warped to the face of the first frame, and the mouth is compared with itself at another time: d = 1 − NCC,
minus the same for nose and cheeks, which cancels brightness, codec, blur and what is left of the pose. Where that says that
something moved, the two are laid on each other once more by the pixels above the mouth, and the smaller difference counts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.eye.aligning import Aligner
from wan2_i2v.eye.faces import LIPS, Face, Floats, Picture

Verdict = Literal["still", "moves", "talking", "unsure", "too small", "turned away", "too brief"]
Span = tuple[float, float]
"""Begin and end in seconds."""

TALKING = 0.05
MOVED = 0.10
UNSURE_TALK = 0.035
UNSURE_MOVED = 0.06
SMALLEST = 48.0
"""Pixels of face height below which stills were taken for moving mouths."""

TURNED_AWAY = 0.7
"""`Face.yaw`, about 60 degrees, from which half of the mouth is hidden; what the other half does was never measured."""
BRIEF = 8
"""Frames for which a face has to be there, in clips that have so many: on noise the mesh sees faces for a frame or two."""
LAID = 0.03
"""Difference from which two pictures of a face are laid on each other by their pixels too: just below what matters."""

LAG_S = 0.19
"""Seconds between the two frames of `talk`: half a syllable, where an opening mouth differs most from itself."""

WINDOW_S = 3.0
"""Percentiles are taken over windows of this length, the worst counts: a gulp stays a gulp in a long clip."""

CROP = 256
FACE = 150
"""Height in pixels of the face in its CROP × CROP picture."""
BLUR = 1.6
SEARCH = 5
"""Pixels by which a box may move between two crops: what is left of the tracker's tremble."""
FLAT = 36.0
"""Grey² added to variances and covariance, so that noise in a flat mouth does not count as change."""

UPPER = (
    10,
    151,
    9,
    8,
    168,
    6,
    197,
    195,
    5,
    4,
    1,
    33,
    133,
    362,
    263,
    127,
    356,
    234,
    454,
    93,
    323,
    98,
    327,
    64,
    294,
    48,
    278,
)
"""Points above the mouth: they place the face."""
AROUND = (
    1,
    2,
    19,
    98,
    327,
    97,
    326,
    129,
    358,
    48,
    278,
    49,
    279,
    50,
    280,
    36,
    266,
    101,
    330,
    118,
    347,
    123,
    352,
    205,
    425,
    4,
)
"""Points around the mouth that do not open with it: they refine its place."""
CONTROL = (5, 4, 48, 278, 50, 280, 36, 266, 195)
"""Nose and inner cheeks, which have texture and do not speak."""

Crop = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class MouthVerdict:
    """What one mouth did. `talk`, `talk_peak` and `change` are the three numbers that decided; `spans` says when.

    `seen` counts the frames in which the face was there; `height` is its median height in pixels.
    """

    verdict: Verdict
    talk: float
    talk_peak: float
    change: float
    spans: tuple[Span, ...]
    seen: int
    height: float


def lag_frames(fps: float) -> int:
    return max(2, round(LAG_S * fps))


@dataclass
class MouthJudge:
    """Collects one face's mouth over a clip. Holds a few crops, and two numbers per frame."""

    fps: float
    _reference: Floats | None = None
    _first: Crop | None = None
    _window: deque[tuple[int, Crop]] = field(default_factory=deque)
    _lagged: list[tuple[int, float]] = field(default_factory=list)
    _changes: list[tuple[int, float]] = field(default_factory=list)
    _heights: list[float] = field(default_factory=list)
    _yaws: list[float] = field(default_factory=list)
    _mouth: Box = (0, 0, 0, 0)
    _control: Box = (0, 0, 0, 0)
    _aligner: Aligner | None = None

    def see(self, index: int, picture: Picture, face: Face) -> Crop:
        """Take in the face of frame `index`; returns the stabilised CROP × CROP grey picture."""
        if self._reference is None:
            self._reference = _template(face)
            self._mouth = _box(self._reference[list(LIPS)], 0.15, 0.3)
            self._control = _box(self._reference[list(CONTROL)], 0.0, 0.0)
            self._aligner = Aligner.of(self._reference, self._mouth[1], CROP)
        crop = stabilised(picture, face, self._reference)
        self._heights.append(face.height)
        self._yaws.append(abs(face.yaw))
        if self._first is None:
            self._first = crop
        else:
            self._changes.append((index, self._difference(self._first, crop)))
        lag = lag_frames(self.fps)
        while self._window and self._window[0][0] < index - lag:
            self._window.popleft()
        if self._window and self._window[0][0] == index - lag:
            self._lagged.append((index, self._difference(self._window[0][1], crop)))
        self._window.append((index, crop))
        return crop

    @property
    def last_change(self) -> float:
        """How unlike its start the mouth was in the last frame seen."""
        return self._changes[-1][1] if self._changes else 0.0

    def _difference(self, a: Crop, b: Crop) -> float:
        """Change of the mouth beyond that of nose and cheeks, about 0 to 1."""
        control = _unlike(a, b, self._control)
        change = _unlike(a, b, self._mouth) - control
        laid = None if change < LAID or self._aligner is None else self._aligner.laid(a, b)
        if laid is not None:
            # The smaller control: where the pixels were laid wrongly, nose and cheeks must not excuse the mouth.
            control = min(control, _unlike(a, laid, self._control))
            change = min(change, _unlike(a, laid, self._mouth) - control)
        return max(0.0, change)

    def verdict(self, frames: int | None = None) -> MouthVerdict:
        """Judge what was seen so far, in a clip of so many frames."""
        talk = self._worst(self._lagged, 90)
        peak = self._worst(self._lagged, 98)
        change = self._worst(self._changes, 95)
        height = float(np.median(self._heights)) if self._heights else 0.0
        verdict = self._unseen(height, frames) or _decide(talk, peak, change)
        spans = self._spans() if verdict in ("talking", "moves", "unsure") else ()
        return MouthVerdict(verdict, talk, peak, change, spans, len(self._heights), height)

    def _unseen(self, height: float, frames: int | None) -> Verdict | None:
        """Why the mouth cannot be judged, if so."""
        if height < SMALLEST:
            return "too small"
        if float(np.median(self._yaws)) > TURNED_AWAY:
            return "turned away"
        return "too brief" if frames is not None and len(self._heights) < min(BRIEF, frames) else None

    def _worst(self, values: list[tuple[int, float]], share: float) -> float:
        """The highest percentile over windows of WINDOW_S that overlap by half."""
        width = max(8, round(WINDOW_S * self.fps))
        series = [value for _, value in values]
        starts = range(0, max(1, len(series) - width // 2), width // 2)
        return max((float(np.percentile(series[a : a + width], share)) for a in starts if series), default=0.0)

    def _spans(self) -> tuple[Span, ...]:
        """When the mouth moved: where the lagged change is high, else where the mouth is unlike that of the start."""
        lag = lag_frames(self.fps)
        moving = [(i - lag, i) for i, value in self._lagged if value > UNSURE_TALK]
        if not moving:
            moving = [(i, i) for i, value in self._changes if value > UNSURE_MOVED]
        joined: list[list[int]] = []
        for begin, end in moving:
            if joined and begin <= joined[-1][1] + lag:
                joined[-1][1] = end
            else:
                joined.append([begin, end])
        return tuple((round(begin / self.fps, 3), round((end + 1) / self.fps, 3)) for begin, end in joined)


def stabilised(picture: Picture, face: Face, reference: Floats) -> Crop:
    """The grey CROP × CROP picture of a face whose points lie on `reference`, slightly blurred.

    First a similarity on the points above the mouth, then an affinity on those around it.
    """
    upper, around = list(UPPER), list(AROUND)
    rough, _ = cv2.estimateAffinePartial2D(face.points[upper], reference[upper], method=cv2.LMEDS)
    if rough is None:
        rough = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float64)
    placed = face.points[around] @ rough[:, :2].T + rough[:, 2]
    fine = _affine(placed, reference[around])
    matrix = np.vstack([fine, [0, 0, 1]]) @ np.vstack([rough, [0, 0, 1]])
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    grey = _warped(picture, matrix[:2], shrink)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), BLUR), dtype=np.float32)


def _warped(picture: Picture, matrix: npt.NDArray[np.float64], shrink: float) -> Crop:
    """Warp, supersampled where the face is larger than its crop, so that fine texture does not alias."""
    factor = 2 if shrink < 0.7 else 1
    scaled = np.diag([factor, factor]) @ matrix
    crop = cv2.warpAffine(
        picture, scaled, (CROP * factor, CROP * factor), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (CROP, CROP), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _affine(source: npt.NDArray[np.float64], target: Floats) -> npt.NDArray[np.float64]:
    """2 × 3 least-squares affinity from `source` to `target` (n × 2 each)."""
    design = np.hstack([source, np.ones((len(source), 1))])
    solution = np.linalg.lstsq(design, target.astype(np.float64), rcond=None)[0]
    return np.asarray(solution.T, dtype=np.float64)


def _template(face: Face) -> Floats:
    """The face's points upright, FACE px high, with the middle of the face in the middle of the crop."""
    cos, sin = np.cos(face.roll), np.sin(face.roll)
    upright = face.points @ np.array([[cos, -sin], [sin, cos]], dtype=np.float32)
    upright = upright * np.float32(FACE / max(face.height, 1e-3))
    middle = (upright.min(axis=0) + upright.max(axis=0)) / 2
    return np.asarray(upright - middle + CROP / 2, dtype=np.float32)


def _box(points: Floats, wider: float, taller: float) -> Box:
    """left, top, right, bottom around points, enlarged by shares of its size, inside the crop less the search range."""
    low, high = points.min(axis=0), points.max(axis=0)
    grow = (high - low) * np.array([wider, taller], dtype=np.float32)
    limit = CROP - SEARCH - 1
    left, top = (int(v) for v in np.clip(np.floor(low - grow), SEARCH, limit - 8))
    right, bottom = (int(v) for v in np.clip(np.ceil(high + grow), SEARCH + 8, limit))
    return left, top, max(right, left + 8), max(bottom, top + 8)


def _unlike(a: Crop, b: Crop, box: Box) -> float:
    """1 − the best regularised correlation of `a`'s box with `b` around the same place."""
    left, top, right, bottom = box
    patch = a[top:bottom, left:right]
    around = b[top - SEARCH : bottom + SEARCH, left - SEARCH : right + SEARCH]
    size = patch.size
    covariance = cv2.matchTemplate(around, patch, cv2.TM_CCOEFF) / size
    shape = (right - left, bottom - top)
    inside = (
        slice(shape[1] // 2, shape[1] // 2 + 2 * SEARCH + 1),
        slice(shape[0] // 2, shape[0] // 2 + 2 * SEARCH + 1),
    )
    mean = cv2.boxFilter(around, -1, shape)[inside]
    square = cv2.sqrBoxFilter(around, -1, shape)[inside]
    variance = np.maximum(square - mean * mean, 0)
    score = (covariance + FLAT) / np.sqrt((float(patch.var()) + FLAT) * (variance + FLAT))
    return float(1 - score.max())


def _decide(talk: float, peak: float, change: float) -> Verdict:
    if talk > TALKING:
        return "talking"
    if change > MOVED or peak > TALKING:
        return "moves"
    return "unsure" if change > UNSURE_MOVED or talk > UNSURE_TALK else "still"
