"""Lay one stabilised picture of a face on another by its pixels: `Aligner`. Imported by `mouth`.

The mesh's points tremble on drawn, stone, turned and heavily compressed faces, and a crop that trembles looks like a mouth that
moves. What lies above the mouth does not speak, so its pixels say where the face really is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Crop = npt.NDArray[np.float32]
"""Square, grey, 0 to 255."""

HALF = 2
"""The search runs on pictures this many times smaller: four times as fast, and it finds what is twice as far off."""
STEPS, PRECISION = 60, 1e-4
SMOOTHING = 5
"""Side of the Gauss kernel (pixels of the smaller picture) through which the pixels are compared."""
ABOVE = 6
"""Pixels above the mouth's box that are left out too: an upper lip that rises takes them along."""


@dataclass(frozen=True)
class Aligner:
    """`mask`: where the face is seen and does not speak, 255; of the smaller picture."""

    mask: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, points: npt.NDArray[np.float32], mouth_top: int, side: int) -> Aligner:
        """For a face with these points in crops of `side` pixels, whose mouth begins at `mouth_top`."""
        low, high = points.min(axis=0), points.max(axis=0)
        (x, y), (width, height) = (low + high) / 2 / HALF, (high - low) / 2 / HALF
        mask = np.zeros((side // HALF, side // HALF), dtype=np.uint8)
        cv2.ellipse(mask, (round(float(x)), round(float(y))), (int(width), int(height)), 0, 0, 360, 255, -1)
        mask[max(0, (mouth_top - ABOVE) // HALF) :] = 0
        return cls(mask)

    def laid(self, still: Crop, moved: Crop) -> Crop | None:
        """`moved`, shifted, turned and stretched onto `still`; None where the two cannot be brought together."""
        size = (still.shape[1] // HALF, still.shape[0] // HALF)
        small = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in (still, moved)]
        begin = np.eye(2, 3, dtype=np.float32)
        until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, STEPS, PRECISION)
        try:
            _, found = cv2.findTransformECC(small[0], small[1], begin, cv2.MOTION_AFFINE, until, self.mask, SMOOTHING)
        except cv2.error:  # it does not converge: nothing there to hold on to, or another face
            return None
        matrix = np.asarray(found, dtype=np.float32)
        matrix[:, 2] *= HALF
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        laid = cv2.warpAffine(moved, matrix, still.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(laid, dtype=np.float32)
