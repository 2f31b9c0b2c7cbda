"""Open a picture the way the pipeline sees it: turned upright, flattened, RGB. Imported by the rest of the eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from wan2_i2v import pictures
from wan2_i2v.eye.faces import Picture

CLEAR = 250
"""Alpha below which a pixel counts as (partly) transparent."""


def opened(picture: Image.Image | Path | str) -> Image.Image:
    """The first frame of a picture, upright, in its own mode, all pixels loaded.

    Raises InvalidImage for a file that is no picture or is damaged.
    """
    if isinstance(picture, Image.Image):
        return ImageOps.exif_transpose(picture)
    return pictures.upright(Path(picture).expanduser())


def alpha_of(image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """The alpha channel, height × width, or None where the picture has none."""
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        return np.asarray(image.convert("RGBA").getchannel("A"), dtype=np.uint8)
    return None


def flattened(
    picture: Picture | Image.Image | Path | str, background: tuple[int, int, int] = (255, 255, 255)
) -> Picture:
    """height × width × 3, RGB, uint8, transparent pixels on `background`. Arrays come back as they are.

    Raises InvalidImage as `opened`.
    """
    if isinstance(picture, np.ndarray):
        return picture
    image = opened(picture)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return _deep(image)
    if alpha_of(image) is not None:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _deep(image: Image.Image) -> Picture:
    """A grey picture of more than 8 bits, its range of 16 bits (or what it uses, if more or fractions) on 0 to 255."""
    value = np.nan_to_num(np.asarray(image).astype(np.float64))
    top = 65535.0 if image.mode.startswith("I") and value.max() <= 65535 else max(float(value.max()), 1e-9)
    grey = np.clip(value / top * 255, 0, 255).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
