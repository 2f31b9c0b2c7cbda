"""What can be seen in a picture, as data: `PictureReport`. A leaf that the plan imports, so no OpenCV and no NumPy here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Urgency = Literal["info", "warning"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Advice(_Frozen):
    """One advice: what to do (`value` for machines) and why."""

    about: str
    value: str
    reason: str
    urgency: Urgency = "info"


class FaceReport(_Frozen):
    """One face: its box in pixels of the picture, its height, and whether its mouth can be seen moving."""

    box: tuple[int, int, int, int]
    height: int
    presence: float
    profile: bool
    mouth_open: bool
    mouth_visible: bool


class Offer(_Frozen):
    """One size of a video: the share of the picture that it cuts away, and how many times it enlarges the rest."""

    width: int
    height: int
    cut_share: float
    enlarged: float


class PictureReport(_Frozen):
    """What `analyze` saw. Colours are #rrggbb; boxes left, top, right, bottom in pixels; shares 0 to 1."""

    width: int
    height: int
    mode: str
    transparent_share: float
    background: Literal["solid", "gradient", "busy"]
    background_colour: str
    subject: tuple[int, int, int, int]
    subject_certain: bool
    faces: tuple[FaceReport, ...]
    mouth_risk: Literal["none", "low", "high"]
    sharpness: float
    brightness: float
    clipped_share: float
    jpeg_blockiness: float
    offers: tuple[Offer, ...] = ()
    size: tuple[int, int]
    crop: Literal["center", "top", "bottom"]
    crop_box: tuple[int, int, int, int]
    advice: tuple[Advice, ...]
