"""Look at a picture before the work: `analyze`. Imported by doors and the plan.

Comes in: a picture. Goes out: `PictureReport`, JSON-ready: what is in it, what that means for a video, and what to
choose, each advice with its reason. Offline, on a CPU, under a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from wan2_i2v import geometry
from wan2_i2v.eye import cropping, opening
from wan2_i2v.eye.advising import advise
from wan2_i2v.eye.background import background_of
from wan2_i2v.eye.faces import Face, Picture, find_faces
from wan2_i2v.eye.findings import FaceReport, Offer, PictureReport
from wan2_i2v.eye.mouth import SMALLEST
from wan2_i2v.eye.series import grey, lab, shrink

SHARP_SIDE = 512
"""Long side at which the Laplacian's variance is taken."""
TURNED = 0.35
WORK_SIDE = 1280


def analyze(
    picture: Image.Image | Path | str,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    sizes: Sequence[tuple[int, int]] = geometry.WAN_SIZES,
) -> PictureReport:
    """Everything that this package can say of a picture. `sizes`: (width, height) on offer.

    Raises InvalidImage for a file that is no picture.
    """
    image = opening.opened(picture)
    alpha = opening.alpha_of(image)
    pixels = opening.flattened(image, background)
    clear = 0.0 if alpha is None else float((alpha < opening.CLEAR).mean())
    work = shrink(pixels, WORK_SIDE)
    scale = pixels.shape[1] / work.shape[1]
    faces = find_faces(work)
    ground = background_of(work)
    source = (image.width, image.height)
    size = geometry.choose_size(source, None, None, sizes)
    subject = _scaled(ground.subject, *source)
    boxes = [_inside(_times(face.box, scale), *source) for face in faces]
    focus = cropping.union(boxes) if boxes else subject
    reports = tuple(_face(face, box, scale) for face, box in zip(faces, boxes, strict=True))
    crop = cropping.crop_box(source, size, boxes, subject)
    report = PictureReport(
        width=image.width,
        height=image.height,
        mode=image.mode,
        transparent_share=round(clear, 4),
        background=ground.kind,
        background_colour="#{:02x}{:02x}{:02x}".format(*ground.colour),
        subject=_whole(subject),
        subject_certain=ground.certain,
        faces=reports,
        mouth_risk=_risk(reports, image.height),
        sharpness=round(_sharpness(pixels), 1),
        brightness=round(float(lab(shrink(pixels, 256))[..., 0].mean()), 1),
        clipped_share=round(_clipped(work), 4),
        jpeg_blockiness=round(_blockiness(pixels), 2),
        offers=tuple(_offer(source, one) for one in sizes),
        size=size,
        crop=cropping.crop_advice(source, size, focus),
        crop_box=_whole(crop),
        advice=(),
    )
    return report.model_copy(update={"advice": advise(report, focus)})


def auto_crop(picture: Image.Image | Path | str, target: tuple[int, int]) -> tuple[float, float, float, float]:
    """`--crop auto`: the box (pixels of the upright picture) of the target's aspect that keeps faces, else the subject."""
    pixels = opening.flattened(opening.opened(picture))
    work = shrink(pixels, WORK_SIDE)
    scale = pixels.shape[1] / work.shape[1]
    source = (pixels.shape[1], pixels.shape[0])
    boxes = [_inside(_times(face.box, scale), *source) for face in find_faces(work)]
    subject = None if boxes else _scaled(background_of(work).subject, *source)
    return cropping.crop_box(source, target, boxes, subject)


def _offer(source: tuple[int, int], size: tuple[int, int]) -> Offer:
    cut, scale = geometry.crop_loss(source, size), geometry.upscale_factor(source, size)
    return Offer(width=size[0], height=size[1], cut_share=round(cut, 4), enlarged=round(scale, 2))


def _face(face: Face, box: cropping.Box, scale: float) -> FaceReport:
    height = face.height * scale
    profile = abs(face.yaw) > TURNED
    return FaceReport(
        box=_whole(box),
        height=round(height),
        presence=round(face.presence, 3),
        profile=profile,
        mouth_open=face.mouth_gap > 0.03,
        mouth_visible=height >= SMALLEST and abs(face.yaw) < 2 * TURNED,
    )


def _risk(faces: Sequence[FaceReport], height: int) -> Literal["none", "low", "high"]:
    """How likely an unwanted mouth movement will be seen: faces whose mouth is large in the picture."""
    visible = [face for face in faces if face.mouth_visible]
    if not visible:
        return "low" if faces else "none"
    return "high" if max(face.height for face in visible) > 0.12 * height else "low"


def _sharpness(pixels: Picture) -> float:
    return float(cv2.meanStdDev(cv2.Laplacian(grey(shrink(pixels, SHARP_SIDE)), cv2.CV_16S))[1][0, 0] ** 2)


def _clipped(pixels: Picture) -> float:
    luma = grey(pixels)
    return float(((luma <= 1) | (luma >= 254)).mean())


def _blockiness(pixels: Picture) -> float:
    """Mean step across the borders of an 8 px grid over the mean step elsewhere; 1 without JPEG's blocks."""
    luma = grey(pixels[:2048, :2048]).astype(np.int16)
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        if len(steps) < 24:
            return 1.0
        border = np.arange(len(steps)) % 8 == 7
        ratios.append(float(steps[border].mean()) / max(float(steps[~border].mean()), 0.05))
    return min(ratios)


def _times(box: cropping.Box, scale: float) -> cropping.Box:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _inside(box: cropping.Box, width: int, height: int) -> cropping.Box:
    """What of a box lies in the picture: the mesh goes on with a face that the edge cuts."""
    left, top = (min(max(value, 0.0), side - 1.0) for value, side in ((box[0], width), (box[1], height)))
    return left, top, min(max(box[2], left + 1), width), min(max(box[3], top + 1), height)


def _scaled(box: cropping.Box, width: int, height: int) -> cropping.Box:
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _whole(box: cropping.Box) -> tuple[int, int, int, int]:
    return round(box[0]), round(box[1]), round(box[2]), round(box[3])
