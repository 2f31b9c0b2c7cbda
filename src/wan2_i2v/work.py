"""How much each stage computes, in floating-point operations (a multiplication with its addition counts as two).

Comes in: dimensions and a latent shape. Goes out: FLOPs. A leaf without torch. Convolutions and matrix products are
counted; norms, activations and rotary tables are not: they are a few percent, and measured rates contain them.
"""

from __future__ import annotations

from wan2_i2v.footprint import TEXT_TOKENS, Vae
from wan2_i2v.geometry import VAE_SCALE_TEMPORAL, LatentShape
from wan2_i2v.rows import ModelRow

CHANGING_CHUNKS = 5
"""After so many chunks of a canvas that stands still every convolution sees what it saw before (`causal_layers`)."""

KERNEL = 27


def forward(model: ModelRow, tokens: int) -> float:
    """One call of one expert: projections, feed-forward, attention over all tokens and over the text.

    The text's keys and values are made once per expert and left out.
    """
    dim, layers = model.dim, model.num_layers
    projections = 2.0 * tokens * (6 * dim**2 + 2 * dim * model.ffn_dim)
    return layers * (projections + 4.0 * tokens**2 * dim + cross(model, tokens))


def cross(model: ModelRow, tokens: int) -> float:
    """Attention over one text in one block: what NAG adds."""
    return 4.0 * tokens * TEXT_TOKENS * model.dim


def text(model: ModelRow, texts: int) -> float:
    """The text encoder, whose vocabulary table is looked up and not multiplied, on 512 tokens."""
    table = 256_384 * model.text_dim
    return 2.0 * TEXT_TOKENS * max(model.text_parameters - table, model.text_parameters / 4) * texts


def decode(vae: Vae, latent: LatentShape) -> float:
    """The VAE decoder on all latent frames."""
    channels = [vae.base * multiple for multiple in (vae.levels[-1], *vae.levels[::-1])]
    frames, area = latent.frames, latent.height * latent.width
    total = _convolution(16, channels[0], frames * area) + _middle(channels[0], frames, area)
    source = channels[0]
    for level, target in enumerate(channels[1:]):
        for _ in range(vae.blocks + 1):
            total += _residual(source, target, frames * area)
            source = target
        if level < len(vae.levels) - 1:
            if vae.temporal[::-1][level]:
                total += 2.0 * 3 * source * 2 * source * frames * area
                frames = 2 * frames - 1
            area *= 4
            total += 2.0 * 9 * source * source / 2 * frames * area
            source //= 2
    return total + _convolution(source, 3 * vae.patch**2, frames * area)


def encode(vae: Vae, latent: LatentShape) -> float:
    """The VAE encoder on the canvas, as far as its chunks still change."""
    frames = 1 + VAE_SCALE_TEMPORAL * min(latent.frames - 1, CHANGING_CHUNKS)
    area = latent.height * latent.width * 4 ** (len(vae.levels) - 1)
    channels = [vae.base * multiple for multiple in (1, *vae.levels)]
    total, source = _convolution(3 * vae.patch**2, channels[0], frames * area), channels[0]
    for level, target in enumerate(channels[1:]):
        for _ in range(vae.blocks):
            total += _residual(source, target, frames * area)
            source = target
        if level < len(vae.levels) - 1:
            area //= 4
            total += 2.0 * 9 * source**2 * frames * area
            if vae.temporal[level]:
                frames = (frames + 1) // 2
                total += 2.0 * 3 * source**2 * frames * area
    return total + _middle(source, frames, area) + _convolution(source, 32, frames * area)


def _convolution(source: int, target: int, positions: int) -> float:
    return 2.0 * KERNEL * source * target * positions


def _residual(source: int, target: int, positions: int) -> float:
    shortcut = 0.0 if source == target else 2.0 * source * target * positions
    return _convolution(source, target, positions) + _convolution(target, target, positions) + shortcut


def _middle(channels: int, frames: int, area: int) -> float:
    """Two residual blocks, and attention within each frame."""
    attention = frames * (4.0 * area**2 * channels + 2.0 * 4 * channels**2 * area)
    return 2 * _residual(channels, channels, frames * area) + attention
