"""Is the first frame the picture that the clip was made from? Imported by `clip`."""

from __future__ import annotations

import cv2
import numpy as np

from wan2_i2v.eye import limits
from wan2_i2v.eye.faces import Picture
from wan2_i2v.eye.series import WORK, shrink
from wan2_i2v.record import Check

SIDE = WORK
"""Long side at which the two are compared."""
SOFTNESS = 1 / 80
"""Blur of both, share of the long side: what a VAE loses is finer, and no fault of the frame."""
FLAT = 16.0
"""Grey² added to variances and covariance, so that two pictures of one colour are alike."""
OFFSET = 30.0
"""Grey levels of brightness apart that count as much as the limit."""


def first_frame_check(frame: Picture | None, picture: Picture | None) -> Check:
    """Compare frame 0 with the source picture, both height × width × 3; sizes and aspects may differ."""
    limit = limits.FIRST_FRAME
    if picture is None or frame is None:
        return limit.unchecked("no picture to compare the first frame with" if frame is not None else "no frames")
    wanted = shrink(frame, SIDE)
    value = min(unlikeness(wanted, candidate) for candidate in _candidates(picture, wanted.shape[:2]))
    return limit.check(
        value,
        f"the first frame is the picture (coarse difference {value:.3f})",
        f"the first frame is not the picture (coarse difference {value:.3f})",
    )


def unlikeness(frame: Picture, picture: Picture) -> float:
    """1 − correlation of two pictures of one size without their fine detail; 0 is equal. Or how far apart their
    brightness is, where that says more."""
    one, other = (_coarse(image) for image in (frame, picture))
    covariance = float(((one - one.mean()) * (other - other.mean())).mean())
    correlation = (covariance + FLAT) / float(np.sqrt((one.var() + FLAT) * (other.var() + FLAT)))
    return max(1 - correlation, limits.FIRST_FRAME.fails * abs(float(one.mean() - other.mean())) / OFFSET)


def _coarse(image: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    sigma = max(0.3, max(image.shape[:2]) * SOFTNESS)
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma), dtype=np.float64)


def _candidates(picture: Picture, shape: tuple[int, ...]) -> list[Picture]:
    """The picture as a first frame may show it: stretched, or cropped at the start, in the middle or at the end."""
    height, width = shape
    source = shrink(picture, 4 * SIDE)
    scale = max(width / source.shape[1], height / source.shape[0])
    size = (max(width, round(source.shape[1] * scale)), max(height, round(source.shape[0] * scale)))
    covering = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
    spare_x, spare_y = size[0] - width, size[1] - height
    places = {(round(spare_x * part), round(spare_y * part)) for part in (0.0, 0.5, 1.0)}
    crops = [covering[top : top + height, left : left + width] for left, top in sorted(places)]
    stretched = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
    return [np.asarray(crop, dtype=np.uint8) for crop in (*crops, stretched)]
