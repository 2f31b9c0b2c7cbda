"""The two experts: the noise levels they work at, pictures as latents, and one pass through a model.

Both move pictures in the same way and differ in their noise levels, each knows only its own, and in light: the high-noise
expert takes it from the text, the low-noise one draws what the text asks for only as far as it finds it begun.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import architecture, initial, vae
from training.pictures import Pool
from wan2_i2v import schedule
from wan2_i2v.models import causal_vae

Expert = schedule.Expert


@dataclass(frozen=True)
class Start:
    """What `initial.construct` needs to know: grey latent, words' embeddings, what shifting heads carry, colours' latents."""

    grey: torch.Tensor
    words: torch.Tensor
    maps: torch.Tensor
    tints: torch.Tensor


SIGMAS: dict[Expert, tuple[float, float]] = {
    "high": (architecture.BOUNDARY_RATIO, 1.0),
    "low": (0.1, architecture.BOUNDARY_RATIO),
}
"""The noise levels that each expert is made for; it knows nothing of the others."""


def view(pool: Pool, size: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random crop of a random picture, shrunk to `size` (width, height)."""
    levels = pool.choose(rng)
    picture = levels[int(rng.integers(len(levels)))]
    width, height = size
    scale = float(np.exp(rng.uniform(0, np.log(max(1.0, min(picture.shape[0] / height, picture.shape[1] / width))))))
    across, down = min(picture.shape[1], int(width * scale)), min(picture.shape[0], int(height * scale))
    left = int(rng.integers(picture.shape[1] - across + 1))
    top = int(rng.integers(picture.shape[0] - down + 1))
    crop = picture[top : top + down, left : left + across]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return cv2.resize(np.ascontiguousarray(crop), size, interpolation=cv2.INTER_AREA)


@torch.no_grad()
def encode_clip(coder: Any, frames: npt.NDArray[Any]) -> torch.Tensor:
    """Pictures that are frames 0, 4, 8, … (n × height × width × 3) → normalised latents (16, n, height / 8, width / 8)."""
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    return causal_vae.normalise(coder, vae.encode_frames(coder, pixels))[0]


def grey_latent(coder: Any, height: int = 16, width: int = 16) -> torch.Tensor:
    """Normalised latent of a grey picture, (16, height, width): what the canvas holds after frame 0."""
    return encode_clip(coder, np.full((1, 8 * height, 8 * width, 3), 127.5, np.float32))[:, 0]


def tints(coder: Any) -> torch.Tensor:
    """What initial.TINT levels more of red, green and blue add to every place of a grey picture's latent, (3, 16)."""
    grey = np.full((1, 128, 128, 3), 127.5, np.float32)
    dark = encode_clip(coder, grey)
    return torch.stack([
        (encode_clip(coder, grey + initial.TINT * colour) - dark).mean((1, 2, 3)) for colour in np.eye(3, dtype=np.float32)
    ])  # fmt: skip


def recipe_sigmas(expert: Expert) -> list[float]:
    """The noise levels at which the 4-step recipes call this expert."""
    levels = {*schedule.sigmas("beta", 8.0, 4)[:-1], *schedule.sigmas("simple", 5.0, 4)[:-1]}
    return sorted(s for s in levels if schedule.expert_at(s, architecture.BOUNDARY_RATIO) == expert)


def predict(
    model: WanTransformer3DModel, noisy: torch.Tensor, image: torch.Tensor, sigma: float, embeds: torch.Tensor
) -> torch.Tensor:
    """Velocity (batch, 16, frames, height, width) at noise level `sigma`."""
    mask = torch.zeros_like(noisy[:, :4])
    mask[:, :, 0] = 1
    timestep = torch.full((len(noisy),), sigma * schedule.TRAIN_TIMESTEPS)
    return torch.as_tensor(model(torch.cat([noisy, mask, image], dim=1), timestep, embeds, return_dict=False)[0])


def new_expert(start: Start) -> WanTransformer3DModel:
    """An expert that can move the first frame, but does not know yet what the text asks for."""
    torch.manual_seed(3)
    model = WanTransformer3DModel(**architecture.EXPERT)
    initial.construct(model, start.grey, start.words, start.maps, start.tints)
    initial.set_levels(model, SIGMAS["high"])
    return model.requires_grad_(False).eval()


def for_levels_of(model: WanTransformer3DModel, expert: Expert) -> WanTransformer3DModel:
    """A copy of `model` that works at the noise levels of `expert`."""
    made = copy.deepcopy(model)
    initial.set_levels(made, SIGMAS[expert])
    return made
