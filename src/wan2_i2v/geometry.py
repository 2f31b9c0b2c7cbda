"""Sizes and lengths: the only home of the numbers 4, 8 and 16. A leaf without torch.

The VAE turns 4n+1 frames into n+1 latent frames and 8×8 pixels into one latent position; the transformer's patches
are 2×2 latent positions, so width and height are multiples of 16 (`facts`: Wan2.2 `wan/image2video.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SIZE_MULTIPLE = 16
VAE_SCALE_SPATIAL = 8
VAE_SCALE_TEMPORAL = 4
LATENT_CHANNELS = 16
PATCH = (1, 2, 2)

# The knowledge base's sizes under their true ratios, plus the two 480P sizes that the model was trained at.
WAN_SIZES: tuple[tuple[int, int], ...] = (
    (720, 720),
    (576, 576),
    (720, 480),
    (480, 720),
    (832, 480),
    (480, 832),
)


@dataclass(frozen=True)
class LatentShape:
    """Shape of a clip in latent space, axis order (batch, channels, frames, height, width)."""

    frames: int
    height: int
    width: int

    @property
    def tensor(self) -> tuple[int, int, int, int, int]:
        return (1, LATENT_CHANNELS, self.frames, self.height, self.width)

    @property
    def tokens(self) -> int:
        """Length of the transformer's sequence."""
        t, h, w = PATCH
        return (self.frames // t) * (self.height // h) * (self.width // w)


def model_frames(num_frames: int) -> int:
    """The smallest 4n+1 that is not below `num_frames`: what the model makes before the surplus is cut."""
    return -(-(num_frames - 1) // VAE_SCALE_TEMPORAL) * VAE_SCALE_TEMPORAL + 1


def latent_shape(frames: int, height: int, width: int) -> LatentShape:
    """Latent shape of `frames` (4n+1) pictures of `height` × `width` pixels (multiples of 16)."""
    return LatentShape((frames - 1) // VAE_SCALE_TEMPORAL + 1, height // VAE_SCALE_SPATIAL, width // VAE_SCALE_SPATIAL)


def snap(value: float) -> int:
    """The multiple of 16 nearest to `value` pixels, at least 16."""
    return max(SIZE_MULTIPLE, round(value / SIZE_MULTIPLE) * SIZE_MULTIPLE)


def crop_loss(source: tuple[int, int], target: tuple[int, int]) -> float:
    """Share of a source (width, height) that a crop to the target's aspect cuts away, in [0, 1)."""
    source_aspect, target_aspect = source[0] / source[1], target[0] / target[1]
    return 1 - min(source_aspect, target_aspect) / max(source_aspect, target_aspect)


def upscale_factor(source: tuple[int, int], target: tuple[int, int]) -> float:
    """How much a source (width, height) is enlarged to cover the target; below 1 it shrinks."""
    return max(target[0] / source[0], target[1] / source[1])


def choose_size(
    source: tuple[int, int], width: int | None, height: int | None, offered: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Width and height of the video, multiples of 16.

    Both given: snapped. One given: the other follows from the source's aspect. None given: the offered size that crops
    least of the picture; among equals the largest (offered lists go from large to small).
    """
    if width is not None and height is not None:
        return snap(width), snap(height)
    aspect = source[0] / source[1]
    if width is not None:
        return snap(width), snap(snap(width) / aspect)
    if height is not None:
        return snap(snap(height) * aspect), snap(height)
    return min(offered, key=lambda size: (round(crop_loss(source, size), 3), -size[0] * size[1]))


def crop_box(source: tuple[int, int], target: tuple[int, int], crop: str) -> tuple[float, float, float, float]:
    """The largest box (left, top, right, bottom) of the target's aspect inside a source (width, height), in pixels.

    `crop` places it: "center", or "top" / "bottom", which move it vertically and keep it centred horizontally; "auto" is
    the centre here, since it needs to be told what is in the picture (`advice.automatic_crop`).
    """
    width, height = source
    target_aspect = target[0] / target[1]
    box_width = min(width, height * target_aspect)
    box_height = min(height, width / target_aspect)
    left = (width - box_width) / 2
    spare = height - box_height
    top = {"top": 0.0, "bottom": spare}.get(crop, spare / 2)
    return (left, top, left + box_width, top + box_height)
