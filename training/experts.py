"""The two experts: clips as latents, then flow matching at the noise levels that inference uses.

Goes out: `latents/*.pt` (shards of encoded clips, made once), `expert-high.pt`, `expert-low.pt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import architecture, initial, motions, wording
from training.pictures import Pool
from training.state import Trainer
from wan2_i2v import schedule
from wan2_i2v.models import causal_vae

SIZES = ((96, 96), (128, 96), (96, 128), (128, 128))
FRAMES = (17, 33, 33, 49, 73)
MOTIONS_PER_PICTURE = 3
SHARD = 16
STEPS, BATCH, RATE = 6000, 4, 6e-4
ANYWHERE = 0.25
"""Share of training steps at a σ drawn anywhere in the expert's range; the others are at the recipes' own levels."""

Expert = schedule.Expert


@dataclass(frozen=True)
class Sample:
    """One clip: normalised latents and image latent, both (16, frames, height, width) float16, and its wording."""

    latents: torch.Tensor
    image_latent: torch.Tensor
    prompt: str
    motion: str


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
def encode_clip(vae: Any, frames: npt.NDArray[np.uint8]) -> torch.Tensor:
    """frames × height × width × 3 → normalised mean latents (16, n, height / 8, width / 8)."""
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    return causal_vae.normalise(vae, vae.encode(pixels).latent_dist.mean)[0]


@torch.no_grad()
def make_shard(vae: Any, pool: Pool, seed: int) -> list[Sample]:
    """SHARD pictures of one size and length, each with MOTIONS_PER_PICTURE motions."""
    rng = np.random.default_rng(seed)
    size, frames = SIZES[rng.integers(len(SIZES))], int(rng.choice(FRAMES))
    samples = []
    for _ in range(SHARD):
        picture = view(pool, size, rng)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        image_latent = causal_vae.normalise(vae, causal_vae.encode_canvas(vae, image, frames))[0]
        for _ in range(MOTIONS_PER_PICTURE):
            prompt, motion = wording.random_request(rng)
            moved = motions.clip(motions.resolve(motion, rng), picture, frames, int(rng.integers(2**31)))
            samples.append(Sample(encode_clip(vae, moved).half(), image_latent.half(), prompt, motion))
    return samples


def make_shards(vae: Any, pool: Pool, folder: Path, count: int) -> None:
    """Encode shards 0…count−1, those that exist already left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        path = folder / f"{seed:05d}.pt"
        if not path.exists():
            samples = [vars(sample) for sample in make_shard(vae, pool, seed)]
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
    if rng.random() > ANYWHERE:
        return float(rng.choice(recipe_sigmas(expert)))
    low, high = (architecture.BOUNDARY_RATIO, 1.0) if expert == "high" else (0.02, architecture.BOUNDARY_RATIO)
    return float(rng.uniform(low, high))


class Objective:
    """Flow matching on batches of one shard: predict noise − x0 from σ·noise + (1 − σ)·x0."""

    def __init__(self, model: WanTransformer3DModel, expert: Expert, shards: list[list[Sample]], reader: Any) -> None:
        self.model, self.expert, self.shards, self.reader = model, expert, shards, reader

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng((step, 7 if self.expert == "high" else 8))
        torch.manual_seed(int(rng.integers(2**31)))
        shard = self.shards[rng.integers(len(self.shards))]
        chosen = [shard[i] for i in rng.choice(len(shard), BATCH, replace=False)]
        clean = torch.stack([sample.latents for sample in chosen]).float()
        image = torch.stack([sample.image_latent for sample in chosen]).float()
        sigma = draw_sigma(self.expert, rng)
        noise = torch.randn_like(clean)
        velocity = predict(self.model, sigma * noise + (1 - sigma) * clean, image, sigma, self.reader(chosen))
        error = (velocity - (noise - clean)).square().mean()
        return error * sigma**2, {"x0_error": float(error.detach()) * sigma**2}


def predict(
    model: WanTransformer3DModel, noisy: torch.Tensor, image: torch.Tensor, sigma: float, embeds: torch.Tensor
) -> torch.Tensor:
    """Velocity (batch, 16, frames, height, width) at noise level `sigma`."""
    mask = torch.zeros_like(noisy[:, :4])
    mask[:, :, 0] = 1
    timestep = torch.full((len(noisy),), sigma * schedule.TRAIN_TIMESTEPS)
    return torch.as_tensor(model(torch.cat([noisy, mask, image], dim=1), timestep, embeds, return_dict=False)[0])


def train_expert(expert: Expert, shards: list[list[Sample]], reader: Any, work: Path, start: Path | None) -> Trainer:
    """One expert from its hand-made start, or from another expert's weights."""
    torch.manual_seed(3)
    model = WanTransformer3DModel(**architecture.EXPERT)
    initial.copy_first_frame(model, sum(recipe_sigmas(expert)) / len(recipe_sigmas(expert)))
    if start is not None:
        model.load_state_dict(torch.load(start, weights_only=True)["average"])
    trainer = Trainer(model, work, f"expert-{expert}", STEPS, RATE, decay=0.998)
    trainer.run(Objective(model, expert, shards, reader))
    return trainer
