"""The VAE's encoder, constructed: an orthonormal transform of 8×8 pixel blocks, exact and linear, nothing to train.

Latents that are linear in the pixels make moving a picture a linear map of its latents, which is what the experts' start
(`initial`) is built on, and their squared error is that of the pixels. The sixteen directions are the principal components
of training pictures, mixed by a Hadamard matrix so that every channel carries the same energy.

Comes in: an untrained `AutoencoderKLWan` of `architecture.VAE` and the training pool. Goes out: its encoder's weights.
"""

from __future__ import annotations

from typing import Any

import scipy.linalg
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d, patchify

LATENTS, FINE = 16, 31
"""Channels of a latent, and of the 4×4 pixel blocks between."""
SCALE = 0.3
"""Latents per unit of the orthonormal transform: brings a channel's standard deviation near 1."""
ANCHOR, SMALL, PAIR_GAIN = 60.0, 0.1, 1.0
"""A constant channel so large that the last norm divides by nearly the same number everywhere."""
LEAK = 0.01
"""What the four borders add to four latent channels. Without it the experts could not know where a token is: rotary
embeddings tell distances only, and an empty frame would look the same everywhere."""


def fit_blocks(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal rows for 4×4 blocks (FINE, 12, 2, 2) and for 8×8 blocks of those (LATENTS, FINE, 2, 2).

    `pixels`: (n, 3, height, width) in [−1, 1].
    """
    patches = patchify(pixels[:, :, None], 2)[:, :, 0]
    fine = _components(patches, FINE)
    coarse = _components(torch.nn.functional.conv2d(patches, fine, stride=2), LATENTS)
    mixing = torch.from_numpy(scipy.linalg.hadamard(LATENTS) / LATENTS**0.5).float()
    return fine, torch.einsum("ml,lcij->mcij", mixing, coarse)


def _components(maps: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` uncentred principal components of 2×2 windows, (count, channels, 2, 2)."""
    windows = torch.nn.functional.unfold(maps, 2, stride=2).transpose(1, 2).flatten(0, 1).double()
    _, vectors = torch.linalg.eigh(windows.T @ windows)
    rows = vectors.flip(1)[:, :count].T.float()
    return rows.reshape(count, maps.shape[1], 2, 2)


@torch.no_grad()
def construct_encoder(vae: AutoencoderKLWan, pixels: torch.Tensor) -> None:
    """Set the encoder's weights; `pixels` as for `fit_blocks`. Temporal taps see the newest frame only."""
    fine, coarse = fit_blocks(pixels)
    encoder = vae.encoder
    for module in (encoder, vae.quant_conv):
        for parameter in module.parameters():
            parameter.zero_()
    _through(encoder.conv_in, torch.eye(12))
    _, shrink_first, second, shrink_second, third = encoder.down_blocks
    shrink_first.resample[1].weight[:FINE, :12, :2, :2] = fine
    _through(second.conv_shortcut, torch.eye(FINE))
    shrink_second.resample[1].weight[:LATENTS, :FINE, :2, :2] = coarse * SCALE * SMALL
    for shrink in (shrink_first, shrink_second):
        shrink.time_conv.weight[:, :, -1, 0, 0] = torch.eye(shrink.time_conv.in_channels)
    signs = torch.cat([torch.eye(LATENTS), -torch.eye(LATENTS)])
    _through(third.conv_shortcut, signs)
    third.conv_shortcut.bias[2 * LATENTS] = ANCHOR
    _mark_borders(encoder.mid_block.resnets[0])
    width = third.conv_shortcut.out_channels
    encoder.norm_out.gamma[: 2 * LATENTS] = PAIR_GAIN * ANCHOR / width**0.5
    # silu(x) − silu(−x) = x.
    _through(encoder.conv_out, torch.cat([torch.eye(LATENTS), -torch.eye(LATENTS)], dim=1) / (SMALL * PAIR_GAIN))
    _through(vae.quant_conv, torch.eye(LATENTS))
    vae.quant_conv.bias[LATENTS:] = -20.0


def _through(convolution: WanCausalConv3d, matrix: torch.Tensor) -> None:
    """The centre and newest tap of a convolution carries `matrix` (outputs, inputs)."""
    middle = convolution.kernel_size[1] // 2
    convolution.weight[: matrix.shape[0], : matrix.shape[1], -1, middle, middle] = matrix


def _mark_borders(block: Any) -> None:
    """A residual block that adds LEAK to channel i where border i (left, right, top, bottom) is: zero padding shows it."""
    anchor, width = 2 * LATENTS, block.conv1.in_channels
    block.norm1.gamma[anchor] = 1.0
    bright = float(torch.nn.functional.silu(torch.tensor(width**0.5)))
    for border, (row, column) in enumerate(((1, 0), (1, 2), (0, 1), (2, 1))):
        block.conv1.weight[border, anchor, -1, row, column] = -1.0
        block.conv1.bias[border] = bright
        block.norm2.gamma[border] = 1.0
        bent = float(torch.nn.functional.silu(torch.tensor(width**0.5)))
        block.conv2.weight[border, border, -1, 1, 1] = LEAK * SMALL / bent
        block.conv2.weight[LATENTS + border, border, -1, 1, 1] = -LEAK * SMALL / bent
