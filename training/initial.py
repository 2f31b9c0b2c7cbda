"""A start for the experts that copies the first frame to all others: training then only has to learn what moves.

Rotary embeddings make a constant query meet a constant key best at the same place; a key that knows the mask prefers
frame 0. One such head, whose values are the image latent, is a still video. Two large constant channels keep the layer
norms nearly linear. Everything else starts at zero output.
"""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformer3DModel

from wan2_i2v.geometry import LATENT_CHANNELS, PATCH

PATCH_VALUES = LATENT_CHANNELS * PATCH[1] * PATCH[2]
NOISE, IMAGE, MASK, ANCHOR, COPY = 0, PATCH_VALUES, 2 * PATCH_VALUES, 2 * PATCH_VALUES + 4, 2 * PATCH_VALUES + 6
"""First channels of the token's parts: noisy latent, image latent, mask, the two constants, the copied frame 0."""

ANCHOR_SIZE = 30.0
PLACE, SAME_FRAME, MASK_KEY = 4.0, 6.0, 6.0
SHARPNESS = 2.0
ROTARY_PAIRS = 3
"""The fastest rotary pairs of an axis, those that tell neighbouring places apart."""


@torch.no_grad()
def copy_first_frame(model: WanTransformer3DModel, sigma: float) -> None:
    """Set `model`'s weights so that it predicts (x − first frame's latent) / sigma everywhere."""
    spread = _layer_norm_spread(model.config.num_attention_heads * model.config.attention_head_dim)
    _embed(model)
    _time(model)
    for index, block in enumerate(model.blocks):
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, 2] = block.scale_shift_table[:, 5] = 1.0
        for output in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
            output.weight.zero_()
            output.bias.zero_()
        for head in range(2):
            _look_at_frame_0(block.attn1, head, spread)
        if index == 0:
            _copy(block.attn1, spread)
    _project(model, sigma, spread)


def _layer_norm_spread(dim: int) -> float:
    """Standard deviation of a token: two anchors and three unit-size patches."""
    return float(((2 * ANCHOR_SIZE**2 + 3 * PATCH_VALUES) / dim) ** 0.5)


def _embed(model: WanTransformer3DModel) -> None:
    weight = model.patch_embedding.weight
    weight.mul_(0.3)
    weight[: COPY + PATCH_VALUES].zero_()
    model.patch_embedding.bias.zero_()
    places = [(i, j) for i in range(PATCH[1]) for j in range(PATCH[2])]
    for channel in range(LATENT_CHANNELS):
        for place, (i, j) in enumerate(places):
            weight[NOISE + channel * len(places) + place, channel, 0, i, j] = 1
            weight[IMAGE + channel * len(places) + place, LATENT_CHANNELS + 4 + channel, 0, i, j] = 1
    for channel in range(4):
        weight[MASK + channel, LATENT_CHANNELS + channel] = 0.25
    model.patch_embedding.bias[ANCHOR], model.patch_embedding.bias[ANCHOR + 1] = ANCHOR_SIZE, -ANCHOR_SIZE


def _time(model: WanTransformer3DModel) -> None:
    embedder = model.condition_embedder
    embedder.time_embedder.linear_2.weight.mul_(0.1)
    embedder.time_embedder.linear_2.bias.zero_()
    embedder.time_proj.weight.mul_(0.1)
    embedder.time_proj.bias.zero_()


def _look_at_frame_0(attention: WanAttention, head: int, spread: float) -> None:
    """Query and key of `head`: same place, frame 0."""
    size = attention.inner_dim // attention.heads
    side = 2 * (size // 6)
    time, first = size - 2 * side, head * size
    rows = slice(first, first + size)
    places = [first + time + axis * side + 2 * pair for axis in range(2) for pair in range(ROTARY_PAIRS)]
    slowest = first + time - 2
    for projection in (attention.to_q, attention.to_k):
        projection.weight[rows].mul_(0.1)
        projection.bias[rows].zero_()
        projection.bias[places] = PLACE
    attention.to_q.bias[slowest] = SAME_FRAME
    attention.to_k.weight[slowest].zero_()
    attention.to_k.weight[slowest, MASK : MASK + 4] = MASK_KEY * spread / 4
    for norm in (attention.norm_q, attention.norm_k):
        norm.weight[[*places, slowest]] = SHARPNESS


def _copy(attention: WanAttention, spread: float) -> None:
    """Head 0 of the first block carries the image latent into the token's COPY part."""
    attention.to_v.weight[:PATCH_VALUES].zero_()
    attention.to_v.bias[:PATCH_VALUES].zero_()
    for value in range(PATCH_VALUES):
        attention.to_v.weight[value, IMAGE + value] = spread
        attention.to_out[0].weight[COPY + value, value] = 1


def _project(model: WanTransformer3DModel, sigma: float, spread: float) -> None:
    model.scale_shift_table.zero_()
    model.proj_out.weight.zero_()
    model.proj_out.bias.zero_()
    places = PATCH[1] * PATCH[2]
    for channel in range(LATENT_CHANNELS):
        for place in range(places):
            row = place * LATENT_CHANNELS + channel
            model.proj_out.weight[row, NOISE + channel * places + place] = spread / sigma
            model.proj_out.weight[row, COPY + channel * places + place] = -spread / sigma
