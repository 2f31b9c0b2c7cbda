"""The causal VAE. Goes out: `vae-images.pt`, `vae-clips.pt`, `vae-long.pt`, then `vae-first.pt`.

The encoder is constructed (`transform`): a linear map of blocks. The decoder learns single pictures first. Then its temporal
taps start as "look at the newest frame only": a latent frame is the picture of the last of its four frames, which makes
encoding clips for the experts as cheap as encoding every fourth frame. Then the decoder learns on short clips to draw the
frames between two latents, and on long ones to keep its peace: its causal convolutions look back further than 9 frames, and
what they have never seen they draw with a pulse every fourth frame. Long clips make little of first frames, so the last phase
learns single pictures beside them. The latents never change, so the experts can be made at the same time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d

from training import architecture, transform
from training.pictures import Pool
from training.state import Trainer

SIDE = 64
IMAGE_BATCH, CLIP_BATCH, CLIP_FRAMES, LONG_FRAMES = 16, 4, 9, 33
IMAGE_STEPS, CLIP_STEPS, LONG_STEPS, FIRST_STEPS = 5600, 250, 1000, 600
FIRST_BATCH, SINGLES = 8, 10**6
RATE_IMAGES, RATE_CLIPS = 2e-3, 3e-4
BASIS_CROPS = 1024
LATENT_NOISE = 0.05
"""Standard deviation added to latents in training, so that the decoder forgives what the experts get slightly wrong: the same in all latents of a
clip, as theirs is, which move the first picture's latents."""
STEADINESS, FIRST_STEADINESS = 0.3, 0.04
"""Weights of the differences between a clip's neighbouring frames: of all, and of the first two once more."""

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


def decoder_loss(vae: AutoencoderKLWan, pixels: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Reconstruction of every frame of (batch, 3, frames, SIDE, SIDE) from the noisy latents of every fourth."""
    latents = encode_frames(vae, pixels[:, :, ::4])
    made = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents[:, :, :1])).sample
    error = F.mse_loss(made, pixels)
    loss = 2 * error + 0.1 * F.l1_loss(made, pixels) + 0.1 * gradient_loss(made, pixels)
    figures = {"psnr": 10 * math.log10(4 / max(float(error.detach()), 1e-9))}
    if pixels.shape[2] > 1:
        changes = (made.diff(dim=2) - pixels.diff(dim=2)).abs()
        unsteady = changes.mean()
        loss = loss + STEADINESS * unsteady + FIRST_STEADINESS * changes[:, :, 0].mean()
        figures["unsteady"] = float(unsteady.detach())
    return loss, figures


@torch.no_grad()
def inflate(vae: AutoencoderKLWan) -> None:
    """Make every causal convolution see its newest frame only; resampling in time picks the last or repeats."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.weight[:, :, :-1] = 0
    for module in vae.modules():
        time_conv = getattr(module, "time_conv", None)
        if time_conv is not None:
            width = time_conv.in_channels
            time_conv.weight.zero_()
            time_conv.bias.zero_()
            time_conv.weight[:, :, -1, 0, 0] = torch.eye(width).repeat(time_conv.out_channels // width, 1)


def new_vae(pool: Pool) -> AutoencoderKLWan:
    """The constructed encoder with an untrained decoder; only the decoder is trainable."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**architecture.VAE)
    transform.construct_encoder(vae, _seeded_batch(pool, 77, BASIS_CROPS, 1)[:, :, 0])
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    return vae


def train_images(pool: Pool, work: Path) -> AutoencoderKLWan:
    """The first phase; returns the averaged model, inflated in time."""
    with image_convolutions():
        vae = new_vae(pool)
        trainer = Trainer(vae, work, "vae-images", IMAGE_STEPS, RATE_IMAGES)
        trainer.run(lambda step: decoder_loss(vae, _seeded_batch(pool, step, IMAGE_BATCH, 1)))
    vae.load_state_dict(trainer.average)
    inflate(vae)
    return vae


def train_clips(vae: AutoencoderKLWan, pool: Pool, work: Path) -> AutoencoderKLWan:
    """The other phases: short clips, long ones, long ones with single pictures."""
    first = IMAGE_STEPS
    for name, steps, loss_of in (
        ("vae-clips", CLIP_STEPS, _short),
        ("vae-long", LONG_STEPS, _long),
        ("vae-first", FIRST_STEPS, _long_and_first),
    ):
        trainer = Trainer(vae, work, name, steps, RATE_CLIPS, decay=0.99)
        trainer.run(lambda step, first=first, loss_of=loss_of: loss_of(vae, pool, first + step))
        vae.load_state_dict(trainer.average)
        first += steps
    return vae


Losses = tuple[torch.Tensor, dict[str, float]]


def _short(vae: AutoencoderKLWan, pool: Pool, seed: int) -> Losses:
    return decoder_loss(vae, _seeded_batch(pool, seed, CLIP_BATCH, CLIP_FRAMES))


def _long(vae: AutoencoderKLWan, pool: Pool, seed: int) -> Losses:
    return decoder_loss(vae, _seeded_batch(pool, seed, 1, LONG_FRAMES))


def _long_and_first(vae: AutoencoderKLWan, pool: Pool, seed: int) -> Losses:
    pictures = _seeded_batch(pool, SINGLES + seed, FIRST_BATCH, 1)
    with image_convolutions():
        single, of_single = decoder_loss(vae, pictures)
    clip, of_clip = _long(vae, pool, seed)
    return clip + single, of_clip | {"psnr_first": of_single["psnr"]}


@torch.no_grad()
def encode_frames(vae: AutoencoderKLWan, pixels: torch.Tensor) -> torch.Tensor:
    """Mean latents (batch, 16, n, height / 8, width / 8) of pictures (batch, 3, n, height, width), each on its own.

    Equal to encoding the clip that has these pictures as its frames 0, 4, 8, … while the VAE is inflated.
    """
    count, _, frames = pixels.shape[:3]
    single = pixels.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    with image_convolutions():
        latents = vae.encode(single).latent_dist.mean
    return latents[:, :, 0].unflatten(0, (count, frames)).transpose(1, 2)


@contextlib.contextmanager
def image_convolutions() -> Iterator[None]:
    """Within, single frames go through 2D convolutions."""
    before = WanCausalConv3d.forward
    WanCausalConv3d.forward = _image_forward
    try:
        yield
    finally:
        WanCausalConv3d.forward = before


@torch.no_grad()
def statistics(vae: AutoencoderKLWan, pool: Pool) -> dict[str, list[float]]:
    """latents_mean and latents_std of the training pictures, for the VAE's configuration."""
    latents = encode_frames(vae, _seeded_batch(pool, 77, 256, 1))
    axes = (0, 2, 3, 4)
    return {"latents_mean": latents.mean(axes).tolist(), "latents_std": latents.std(axes).tolist()}


def _seeded_batch(pool: Pool, seed: int, count: int, frames: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return batch(pool, count, frames, np.random.default_rng(seed))
