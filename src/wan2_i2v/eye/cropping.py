"""Where to crop so that faces, else the subject, stay in the picture: `crop_box`. Imported by `picture` and doors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from wan2_i2v.geometry import crop_box as placed_box

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""

ABOVE, AROUND = 0.5, 0.35
"""Room around faces in face heights: above the forehead, and on the other sides."""
EYE_LINE = 0.42
"""Where the middle of the faces is put, as a share of the crop's height."""
KEPT_ALIKE = 0.02
"""Shares of the subject that differ by no more than this are as good as equal; the centre then wins."""


def crop_box(source: tuple[int, int], target: tuple[int, int], faces: Sequence[Box], subject: Box | None) -> Box:
    """The largest box of the target's aspect in a source (width, height) that keeps faces, else the subject.

    With neither it is the centre crop. Boxes of `faces` and `subject` in pixels of the source.
    """
    left, top, right, bottom = placed_box(source, target, "center")
    width, height = right - left, bottom - top
    if faces:
        keep = union([_roomy(face) for face in faces])
        focus = union(faces)
        x = (keep[0] + keep[2]) / 2
        y = (focus[1] + focus[3]) / 2 + (0.5 - EYE_LINE) * height
    elif subject is not None:
        keep = subject
        x, y = (subject[0] + subject[2]) / 2, (subject[1] + subject[3]) / 2
    else:
        return left, top, right, bottom
    left = _placed(x - width / 2, width, keep[0], keep[2], source[0])
    top = _placed(y - height / 2, height, keep[1], keep[3], source[1])
    return left, top, left + width, top + height


def crop_advice(source: tuple[int, int], target: tuple[int, int], box: Box) -> Literal["center", "top", "bottom"]:
    """Which of the three crops keeps most of a box (pixels of the source)."""
    kept = {where: kept_share(box, placed_box(source, target, where)) for where in ("center", "top", "bottom")}
    best = max(kept.values())
    if kept["center"] >= best - KEPT_ALIKE:
        return "center"
    return "top" if kept["top"] >= kept["bottom"] else "bottom"


def kept_share(box: Box, crop: Box) -> float:
    """Share of a box's area that lies inside a crop, 0 to 1."""
    width = max(0.0, min(box[2], crop[2]) - max(box[0], crop[0]))
    height = max(0.0, min(box[3], crop[3]) - max(box[1], crop[1]))
    return width * height / max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)


def union(boxes: Sequence[Box]) -> Box:
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _roomy(face: Box) -> Box:
    height = face[3] - face[1]
    return face[0] - AROUND * height, face[1] - ABOVE * height, face[2] + AROUND * height, face[3] + AROUND * height


def _placed(start: float, length: float, keep_from: float, keep_to: float, whole: int) -> float:
    """`start` moved so that the crop holds what is to be kept, where it fits, and stays inside the picture."""
    if keep_to - keep_from <= length:
        start = min(max(start, keep_to - length), keep_from)
    return min(max(start, 0.0), whole - length)
