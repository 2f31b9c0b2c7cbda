"""Is the first frame the picture that the clip was made from? Imported by `clip`."""

from __future__ import annotations

import cv2
import numpy as np

from wan2_i2v.eye import limits
from wan2_i2v.eye.faces import Picture
from wan2_i2v.eye.series import WORK, shrink
from wan2_i2v.media.measure import ssim
from wan2_i2v.record import Check

SIDE = WORK
"""Long side at which the two are compared."""
SOFTNESS = (1.0, 2.0)
"""Pixels; a small VAE loses fine texture, which is no fault of the frame."""


def first_frame_check(frame: Picture | None, picture: Picture | None) -> Check:
    """Compare frame 0 with the source picture, both height × width × 3; sizes and aspects may differ."""
    limit = limits.FIRST_FRAME
    if picture is None or frame is None:
        return limit.unchecked("no picture to compare the first frame with" if frame is not None else "no frames")
    wanted = shrink(frame, SIDE)
    likeness = max(_softened(wanted, candidate) for candidate in _candidates(picture, wanted.shape[:2]))
    value = 1 - likeness
    return limit.check(
        value,
        f"the first frame is the picture (SSIM {likeness:.2f})",
        f"the first frame is not the picture (SSIM {likeness:.2f})",
    )


def _softened(frame: Picture, picture: Picture) -> float:
    """SSIM with the picture as sharp as the frame is: blurred by what brings the two closest."""
    blurred = [np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), dtype=np.uint8) for sigma in SOFTNESS]
    return max(ssim(frame, candidate) for candidate in (picture, *blurred))


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
