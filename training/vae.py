"""The causal VAE: first on single pictures, then on short clips that move. Goes out: `vae-images.pt`, `vae-clips.pt`."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders import autoencoder_kl_wan
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d

from training import architecture
from training.pictures import Pool, load_pool
from training.state import Trainer

SIDE = 64
IMAGE_BATCH, CLIP_BATCH, CLIP_FRAMES = 16, 4, 9
IMAGE_STEPS, CLIP_STEPS = 3500, 800
RATE_IMAGES, RATE_CLIPS = 2e-3, 1e-3
LATENT_NOISE = 0.1
"""Standard deviation added to latents in training, so that the decoder forgives what the experts get slightly wrong."""

_plain_forward = WanCausalConv3d.forward


def _image_forward(self: WanCausalConv3d, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
    """A causal convolution of one frame with nothing before it is a 2D convolution with its last temporal slice."""
    if x.shape[2] == 1 and cache_x is None and self.stride[0] == 1 and self._padding[4] == self.kernel_size[0] - 1:
        padding = (self._padding[2], self._padding[0])
        return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, self.stride[1:], padding).unsqueeze(2)
    return torch.as_tensor(_plain_forward(self, x, cache_x))


def crop_clip(pool: Pool, frames: int, side: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """`frames` × side × side × 3 in 0…255: a random view of a random picture, drifting, zooming and turning slowly."""
    levels = pool.choose(rng)
    scale = float(np.exp(rng.uniform(np.log(0.35), np.log(1.6))))
    level = min(len(levels) - 1, max(0, round(-2 * math.log2(scale)))) if scale < 1 else 0
    picture, scale = levels[level], scale * 2 ** (level / 2)
    height, width = picture.shape[:2]
    x, y = rng.uniform(0.15 * width, 0.85 * width), rng.uniform(0.15 * height, 0.85 * height)
    drift = rng.normal(0, 0.6, 2) * (rng.random() < 0.8)
    zoom, turn = rng.normal(0, 0.003) * (rng.random() < 0.5), rng.normal(0, 0.004) * (rng.random() < 0.5)
    flicker = rng.uniform(0, 0.15) * (rng.random() < 0.25)
    mirrored = rng.random() < 0.5
    views = []
    for t in range(frames):
        size = scale * math.exp(zoom * t)
        cosine, sine = math.cos(turn * t) * size, math.sin(turn * t) * size
        shift_x = side / 2 - cosine * x + sine * y + drift[0] * t
        shift_y = side / 2 - sine * x - cosine * y + drift[1] * t
        matrix = np.array([[cosine, -sine, shift_x], [sine, cosine, shift_y]])
        view = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        bright = view.astype(np.float32) * (1 + flicker * math.sin(1.3 * t))
        views.append(np.clip(bright[:, ::-1] if mirrored else bright, 0, 255))
    return np.stack(views)


def batch(pool: Pool, count: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
    """(count, 3, frames, SIDE, SIDE) in [−1, 1]."""
    clips = np.stack([crop_clip(pool, frames, SIDE, rng) for _ in range(count)])
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).contiguous() / 127.5 - 1


def gradient_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of horizontal and vertical differences: keeps edges sharp."""
    error = made - wanted
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


def loss_of(vae: AutoencoderKLWan, pixels: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Reconstruction from noisy latents, with a weak pull of the latents to unit size."""
    latents = vae.encode(pixels).latent_dist.mean
    made = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
    error, size = F.mse_loss(made, pixels), latents.square().mean()
    loss = 2 * error + 0.3 * F.l1_loss(made, pixels) + 0.2 * gradient_loss(made, pixels) + 1e-3 * size
    return loss, {"psnr": 10 * math.log10(4 / float(error.detach())), "latent_square": float(size.detach())}


def train(work: Path) -> AutoencoderKLWan:
    """Both phases, resumed where they stopped; returns the averaged model."""
    autoencoder_kl_wan.WanCausalConv3d.forward = _image_forward
    pool = load_pool(work / "pool.pkl")
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**architecture.VAE)
    images = Trainer(vae, work, "vae-images", IMAGE_STEPS, RATE_IMAGES)
    images.run(lambda step: loss_of(vae, _seeded_batch(pool, step, IMAGE_BATCH, 1)))
    vae.load_state_dict(images.average)
    clips = Trainer(vae, work, "vae-clips", CLIP_STEPS, RATE_CLIPS)
    clips.run(lambda step: loss_of(vae, _clip_or_images(pool, step)))
    vae.load_state_dict(clips.average)
    return vae


def _seeded_batch(pool: Pool, seed: int, count: int, frames: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return batch(pool, count, frames, np.random.default_rng(seed))


def _clip_or_images(pool: Pool, step: int) -> torch.Tensor:
    """Three clips to one batch of pictures, so that single frames stay good."""
    seed = IMAGE_STEPS + step
    return _seeded_batch(pool, seed, *((IMAGE_BATCH, 1) if step % 4 == 3 else (CLIP_BATCH, CLIP_FRAMES)))
