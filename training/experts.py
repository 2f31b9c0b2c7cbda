"""The two experts: clips as latents, the noise levels that inference uses, the model with its start.

Goes out: `latents/*.pt` (shards of encoded clips, made once).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import architecture, initial, motions, vae, wording
from training.pictures import Pool
from wan2_i2v import schedule
from wan2_i2v.models import causal_vae

SHAPES = (
    ((128, 128), 33), ((128, 128), 33), ((96, 96), 73), ((160, 96), 33), ((96, 160), 33), ((192, 192), 17),
    ((64, 64), 121), ((256, 256), 9), ((128, 128), 49),
)  # fmt: skip
"""(width, height) and frames of the training clips, about equally many tokens each."""
MOTIONS_PER_PICTURE = 3
SHARD = 16
ANYWHERE = 0.15
"""Share of training steps at a σ drawn anywhere in the expert's range; the others are at the recipes' own levels."""

Expert = schedule.Expert
Reader = Callable[[list["Sample"]], torch.Tensor]
"""Text embeddings (batch, 512, text_dim) of the prompts of samples."""


@dataclass(frozen=True)
class Sample:
    """One clip: normalised latents and image latent, both (16, frames, height, width) float16, and its wording."""

    latents: torch.Tensor
    image_latent: torch.Tensor
    prompt: str
    motion: str


@dataclass(frozen=True)
class Start:
    """What `initial.copy_first_frame` needs to know: grey latent, words' embeddings, shift maps."""

    grey: torch.Tensor
    words: torch.Tensor
    moves: torch.Tensor


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


def make_shard(coder: Any, pool: Pool, seed: int) -> list[Sample]:
    """SHARD pictures of one shape, each with MOTIONS_PER_PICTURE motions."""
    rng = np.random.default_rng(seed)
    size, frames = SHAPES[seed % len(SHAPES)]
    grey = encode_clip(coder, np.full((1, size[1], size[0], 3), 127.5, np.float32))
    samples = []
    for _ in range(SHARD):
        picture = view(pool, size, rng)
        for _ in range(MOTIONS_PER_PICTURE):
            prompt, motion = wording.random_request(rng)
            moved = motions.clip(motions.resolve(motion), picture, range(0, frames, 4))
            latents = encode_clip(coder, moved)
            image_latent = torch.cat([latents[:, :1], grey.expand(-1, latents.shape[1] - 1, -1, -1)], dim=1)
            samples.append(Sample(latents.half(), image_latent.half(), prompt, motion))
    return samples


def make_shards(coder: Any, pool: Pool, folder: Path, count: int) -> None:
    """Encode shards 0…count−1, those that exist already left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        path = folder / f"{seed:05d}.pt"
        if not path.exists():
            samples = [vars(sample) for sample in make_shard(coder, pool, seed)]
            temporary = path.with_suffix(".tmp")
            torch.save(samples, temporary)
            temporary.replace(path)
            print("shard", seed, tuple(samples[0]["latents"].shape), flush=True)


def load_shards(folder: Path) -> list[list[Sample]]:
    files = sorted(folder.glob("*.pt"))
    return [[Sample(**fields) for fields in torch.load(file, weights_only=True)] for file in files]


def recipe_sigmas(expert: Expert) -> list[float]:
    """The noise levels at which the 4-step recipes call this expert."""
    levels = {*schedule.sigmas("beta", 8.0, 4)[:-1], *schedule.sigmas("simple", 5.0, 4)[:-1]}
    return sorted(s for s in levels if schedule.expert_at(s, architecture.BOUNDARY_RATIO) == expert)


def draw_sigma(expert: Expert, rng: np.random.Generator) -> float:
    """A noise level of `expert`'s range; "single" stands for both experts' levels, evenly."""
    if expert == "single":
        return draw_sigma("high" if rng.random() < 0.5 else "low", rng)
    if rng.random() > ANYWHERE:
        return float(rng.choice(recipe_sigmas(expert)))
    low, high = (architecture.BOUNDARY_RATIO, 1.0) if expert == "high" else (0.1, architecture.BOUNDARY_RATIO)
    return float(rng.uniform(low, high))


def predict(
    model: WanTransformer3DModel, noisy: torch.Tensor, image: torch.Tensor, sigma: float, embeds: torch.Tensor
) -> torch.Tensor:
    """Velocity (batch, 16, frames, height, width) at noise level `sigma`."""
    mask = torch.zeros_like(noisy[:, :4])
    mask[:, :, 0] = 1
    timestep = torch.full((len(noisy),), sigma * schedule.TRAIN_TIMESTEPS)
    return torch.as_tensor(model(torch.cat([noisy, mask, image], dim=1), timestep, embeds, return_dict=False)[0])


def new_expert(start: Start) -> WanTransformer3DModel:
    """An expert whose start copies the first frame and knows how to move it, but not yet when."""
    torch.manual_seed(3)
    model = WanTransformer3DModel(**architecture.EXPERT)
    initial.copy_first_frame(model, start.grey, start.words, start.moves)
    return model.requires_grad_(False)
