"""Is a picture's background solid, and where is its subject? Imported by `picture`. Hints, not facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.eye.faces import Picture
from wan2_i2v.eye.series import lab, shrink

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
"""left, top, right, bottom as shares of the picture, 0 to 1."""

SIDE = 256
RING = 0.05
"""Width of the border that is looked at, as a share of the side."""
ALIKE = 7.0
"""Lab distance within which border pixels have one colour."""
SOLID = 0.9
"""Share of a side that has to be of the colour; three sides have to, since a subject may touch the fourth."""
APART = 12.0
"""Lab distance from the background at which something is the subject."""


@dataclass(frozen=True)
class Background:
    """`kind`, the border's colour (RGB), the subject's box and how sure the box is."""

    kind: Literal["solid", "gradient", "busy"]
    colour: tuple[int, int, int]
    subject: Box
    certain: bool


def background_of(picture: Picture) -> Background:
    """Look at the border in Lab; the subject is what differs from it, or what differs most from all four sides."""
    small = shrink(picture, SIDE)
    colours = lab(small)
    sides = _sides(colours)
    middle = np.median(np.concatenate(sides), axis=0)
    shares = sorted(float((np.linalg.norm(side - middle, axis=1) < ALIKE).mean()) for side in sides)
    rgb = _rgb(middle)
    if shares[1] > SOLID:
        box = _box_of(np.linalg.norm(colours - middle, axis=2) > APART)
        return Background("solid", rgb, box or (0.0, 0.0, 1.0, 1.0), box is not None)
    fitted = _surface(colours)
    distance = np.linalg.norm(colours - fitted, axis=2)
    near = sorted(float((side < ALIKE).mean()) for side in _sides(distance[..., None]))
    if near[1] > SOLID:
        box = _box_of(distance > APART)
        return Background("gradient", rgb, box or (0.0, 0.0, 1.0, 1.0), box is not None)
    return Background("busy", rgb, _salient(colours), False)


def _sides(colours: Floats) -> list[Floats]:
    """Top, bottom, left and right border, each n × channels."""
    height, width, channels = colours.shape
    rows, columns = max(1, round(RING * height)), max(1, round(RING * width))
    parts = (colours[:rows], colours[-rows:], colours[:, :columns], colours[:, -columns:])
    return [part.reshape(-1, channels) for part in parts]


def _surface(colours: Floats) -> Floats:
    """A quadratic surface through the border, evaluated everywhere; fitted on every fourth pixel."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height - 0.5, x / width - 0.5
    basis = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    design = np.concatenate([side[::4] for side in _sides(basis)])
    target = np.concatenate([side[::4] for side in _sides(colours)])
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.asarray(basis @ weights, dtype=np.float32)


def _box_of(mask: npt.NDArray[np.bool_]) -> Box | None:
    """The box around a mask without its specks; None for (almost) nothing."""
    clean = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    if clean.mean() < 0.002:
        return None
    height, width = clean.shape
    rows, columns = np.flatnonzero(clean.any(axis=1)), np.flatnonzero(clean.any(axis=0))
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )


def _salient(colours: Floats) -> Box:
    """Where the colours are unlike all four sides (Mahalanobis distance), near the middle rather than at the border."""
    height, width = colours.shape[:2]
    distances = []
    for side in _sides(colours):
        spread = np.cov(side.T) + 4 * np.eye(3)
        off = colours - side.mean(axis=0)
        distances.append(np.sqrt(np.einsum("hwc,cd,hwd->hw", off, np.linalg.inv(spread), off)))
    y, x = np.mgrid[0:height, 0:width]
    centred = np.exp(-(((x / width - 0.5) / 0.35) ** 2 + ((y / height - 0.5) / 0.35) ** 2) / 2)
    weight = cv2.GaussianBlur((np.min(distances, axis=0) * centred).astype(np.float32), (0, 0), SIDE / 40)
    box = _box_of(weight > 0.5 * weight.max())
    return box or (0.25, 0.25, 0.75, 0.75)


def _rgb(colour: Floats) -> tuple[int, int, int]:
    pixel = cv2.cvtColor(colour.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_LAB2RGB)
    red, green, blue = np.clip(np.asarray(pixel).ravel() * 255, 0, 255).round().astype(int).tolist()
    return red, green, blue
