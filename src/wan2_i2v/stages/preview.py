"""What a clip will look like, seen while it is denoised: a small picture made of latents, without a decoder. For `denoise`.

Comes in: the job's picture as pixels and as latent, and the velocity of each step. Goes out: PNG bytes. The latents of
these VAEs hold colour almost linearly (Wan, Flux and SD previews in ComfyUI's `latent_formats.py` are such maps). The map
is fitted to the job's own picture, which is known in both forms, so that it suits every VAE and needs no table of factors.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from wan2_i2v.plan import StepPlan

Floats = npt.NDArray[np.float64]
Velocity = Callable[[torch.Tensor, StepPlan], torch.Tensor]

SIDE = 256
"""The longer side of a preview in pixels."""

RIDGE = 1e-3
"""Keeps the fit of a flat picture, whose channels hardly differ, from running away; a share of the latents' power."""


def fit(latent: Floats, picture: Image.Image) -> Floats:
    """The map (channels + 1, 3) from a latent (channels, height, width) to RGB in 0 to 255, by least squares."""
    small = picture.convert("RGB").resize((latent.shape[2], latent.shape[1]), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float64).reshape(-1, 3)
    known = _rows(latent)
    power = known.T @ known
    power += RIDGE * np.trace(power) / len(power) * np.eye(len(power))
    return np.asarray(np.linalg.solve(power, known.T @ pixels), dtype=np.float64)


def render(latent: Floats, colours: Floats, size: tuple[int, int]) -> bytes:
    """A latent (channels, height, width) as a PNG in the shape of `size` (width, height), `SIDE` at its longer side."""
    height, width = latent.shape[1:]
    pixels = np.clip(_rows(latent) @ colours, 0, 255).reshape(height, width, 3).round().astype(np.uint8)
    scale = SIDE / max(size)
    shown = Image.fromarray(pixels).resize(
        (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), Image.Resampling.BICUBIC
    )
    data = io.BytesIO()
    shown.save(data, "PNG")
    return data.getvalue()


class Look:
    """Watches a velocity and keeps the clean estimate x0 = x − σ·v of one frame in the middle of the clip.

    `latent_condition` as the image stage leaves it: its last 16 channels at frame 0 are the latent of `picture`.
    """

    def __init__(self, velocity: Velocity, latent_condition: torch.Tensor, picture: Image.Image) -> None:
        self._velocity, self._size = velocity, picture.size
        self._colours = fit(_floats(latent_condition[0, -16:, 0]), picture)
        self._clean: Floats | None = None

    def __call__(self, latents: torch.Tensor, step: StepPlan) -> torch.Tensor:
        """The velocity, as if nobody watched."""
        velocity = self._velocity(latents, step)
        middle = latents.shape[2] // 2
        self._clean = _floats(latents[0, :, middle] - step.sigma * velocity[0, :, middle])
        return velocity

    def png(self) -> bytes:
        """The clip as of the last step. Raises RuntimeError before the first."""
        if self._clean is None:
            raise RuntimeError("no step was watched yet")
        return render(self._clean, self._colours, self._size)


def _floats(tensor: torch.Tensor) -> Floats:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())


def _rows(latent: Floats) -> Floats:
    """One row a position: its channels and a 1."""
    flat = latent.reshape(latent.shape[0], -1).T
    return np.hstack([flat, np.ones((len(flat), 1))])
