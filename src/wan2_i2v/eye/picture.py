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
from wan2_i2v.eye.background import Background, background_of
from wan2_i2v.eye.faces import Face, Picture, find_faces
from wan2_i2v.eye.findings import Advice, FaceReport, PictureReport
from wan2_i2v.eye.mouth import SMALLEST
from wan2_i2v.eye.series import grey, lab, shrink

CLEAR_SHARE = 0.005
"""Share of (partly) transparent pixels from which transparency matters; many pictures carry an opaque alpha channel."""
SHARP_SIDE, SOFT = 512, 15.0
"""Long side at which the Laplacian's variance is taken, and the variance below which a picture looks soft."""
DARK, BRIGHT, CLIPPED = 20.0, 90.0, 0.2
"""Mean L* of a dark and of a bright picture, and the share of pixels at 0 or 255 that is much."""
BLOCKY = 1.35
"""Steps at the borders of JPEG's 8 × 8 blocks over steps elsewhere."""
ENLARGED = 1.5
PORTRAIT = 0.18
"""Face height over picture height from which a picture is a portrait."""
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
    boxes = [_times(face.box, scale) for face in faces]
    focus = cropping.union(boxes) if boxes else subject
    reports = tuple(_face(face, scale) for face in faces)
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
        size=size,
        crop=cropping.crop_advice(source, size, focus),
        crop_box=_whole(crop),
        advice=(),
    )
    return report.model_copy(update={"advice": _advice(report, ground, focus)})


def auto_crop(picture: Image.Image | Path | str, target: tuple[int, int]) -> tuple[float, float, float, float]:
    """`--crop auto`: the box (pixels of the upright picture) of the target's aspect that keeps faces, else the subject."""
    pixels = opening.flattened(opening.opened(picture))
    work = shrink(pixels, WORK_SIDE)
    scale = pixels.shape[1] / work.shape[1]
    source = (pixels.shape[1], pixels.shape[0])
    boxes = [_times(face.box, scale) for face in find_faces(work)]
    subject = None if boxes else _scaled(background_of(work).subject, *source)
    return cropping.crop_box(source, target, boxes, subject)


def _face(face: Face, scale: float) -> FaceReport:
    height = face.height * scale
    profile = abs(face.yaw) > TURNED
    return FaceReport(
        box=_whole(_times(face.box, scale)),
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


def _advice(report: PictureReport, ground: Background, focus: cropping.Box) -> tuple[Advice, ...]:
    return (*_choices(report, focus), *_warnings(report, ground))


def _choices(report: PictureReport, focus: cropping.Box) -> list[Advice]:
    source, size = (report.width, report.height), report.size
    loss = geometry.crop_loss(source, size)
    cut = (
        "nothing is cut" if loss < 0.005 else f"{loss:.0%} of the picture is cut away, the least of the sizes on offer"
    )
    portrait = bool(report.faces) and report.faces[0].height > PORTRAIT * report.height
    kept = cropping.kept_share(focus, geometry.crop_box(source, size, report.crop))
    what = "the faces" if report.faces else "the subject"
    preset, why = ("static-portrait", "a large face fills the picture") if portrait else ("", "")
    advice = [
        Advice(
            about="size",
            value=f"{size[0]}x{size[1]}",
            reason=f"closest to the picture's {source[0]}×{source[1]}: {cut}",
        ),
        Advice(about="crop", value=report.crop, reason=f"keeps {kept:.0%} of {what}"),
        Advice(
            about="num_frames",
            value="72" if portrait else "81",
            reason="a calm portrait needs no more than 3 s at 24 fps"
            if portrait
            else "the length that the model was trained for",
        ),
    ]
    if kept < 0.95:
        advice[1] = Advice(
            about="crop", value="auto", reason=f"center, top and bottom keep at most {kept:.0%} of {what}"
        )
    if preset:
        advice.append(Advice(about="preset", value=preset, reason=why))
    return advice


def _warnings(report: PictureReport, ground: Background) -> list[Advice]:
    scale = geometry.upscale_factor((report.width, report.height), report.size)
    low = report.mouth_risk == "high"
    found = [
        (
            report.transparent_share > CLEAR_SHARE,
            "background",
            "white",
            f"{report.transparent_share:.0%} of the pixels are transparent; they are put on one colour, choose it with --background",
        ),
        (
            low,
            "negative_prompt",
            "mouth",
            "a mouth is large enough to be seen moving; keep the mouth-prevention negative and describe closed lips",
        ),
        (
            any(face.mouth_open for face in report.faces[:4]) and low,
            "prompt",
            "expression",
            "a mouth is open in the picture; the model may close and open it again",
        ),
        (
            report.sharpness < SOFT,
            "picture",
            "sharper",
            f"the picture looks soft (sharpness {report.sharpness:.0f}); the video will be no sharper",
        ),
        (report.brightness < DARK, "picture", "brighter", f"the picture is dark (L* {report.brightness:.0f} of 100)"),
        (
            report.brightness > BRIGHT,
            "picture",
            "darker",
            f"the picture is very bright (L* {report.brightness:.0f} of 100)",
        ),
        (
            report.clipped_share > CLIPPED and ground.kind == "busy",
            "picture",
            "exposure",
            f"{report.clipped_share:.0%} of the pixels are pure black or white",
        ),
        (
            report.jpeg_blockiness > BLOCKY,
            "picture",
            "original",
            "JPEG blocks are visible; use a better copy if there is one",
        ),
        (
            scale > ENLARGED,
            "size",
            "smaller",
            f"the picture is enlarged {scale:.1f} times; a smaller size or a larger picture gives more detail",
        ),
    ]
    return [
        Advice(about=about, value=value, reason=reason, urgency="warning")
        for wanted, about, value, reason in found
        if wanted
    ]


def _times(box: cropping.Box, scale: float) -> cropping.Box:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _scaled(box: cropping.Box, width: int, height: int) -> cropping.Box:
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _whole(box: cropping.Box) -> tuple[int, int, int, int]:
    return round(box[0]), round(box[1]), round(box[2]), round(box[3])
