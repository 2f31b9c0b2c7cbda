"""A start for the experts that copies the first frame to all others: training then only has to learn what moves.

Rotary embeddings make a constant query meet a constant key best at the same place; a key that knows the mask prefers
frame 0. One such head, whose values are the image latent, is a still video. Two large constant channels keep the layer
norms nearly linear. Three more heads of the first block tell a token where it is: rotary embeddings know distances only,
but the latents of the grey frames look different at the four borders, and a wide kernel over them falls with the
distance to each; a kernel over time does the same for the distance to frame 0. Later blocks' heads look one token to the
left, right, up and down of the same place in frame 0 and shift the picture by amounts that `wishes` fits. All other outputs
start at zero.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformer3DModel

from wan2_i2v.geometry import LATENT_CHANNELS, PATCH

PATCH_VALUES = LATENT_CHANNELS * PATCH[1] * PATCH[2]
NOISE, IMAGE, MASK, ANCHOR, COPY = 0, PATCH_VALUES, 2 * PATCH_VALUES, 2 * PATCH_VALUES + 4, 2 * PATCH_VALUES + 6
PLACES = COPY + PATCH_VALUES
"""First channels of the token's parts: noisy latent, image latent, mask, the two constants, the copied frame 0, where it is."""

ANCHOR_SIZE = 60.0
PLACE, SAME_FRAME, MASK_KEY = 4.0, 6.0, 4.0
SHARPNESS = 2.0
ROTARY_PAIRS = 3
"""The fastest rotary pairs of an axis, those that tell neighbouring places apart."""
WIDE_PAIR, TIME_PAIR = 3, 4
"""Pairs whose turn over a whole picture, or clip, stays below half a circle."""
PLACES_GAIN = 6.0
TIMES, AMOUNT, ZERO = PLACES + 5, PLACES + 9, PLACES + 13
"""Channels of four clocks, of how far the picture has moved right, left, down and up in tokens, and one that stays zero:
what it holds after a layer norm is what the norm has subtracted."""
WISH, WISH_GAIN = ZERO + 1, 5.0
"""First of the channels that tell which motion the text asks for, one per motion."""
SQUARE, TEXT_LOGIT = 0.35, 7.0
QUICK_SINES = 56
NEIGHBOURS = [(0, -1), (0, 1), (-1, 0), (1, 0)]
"""Offsets (down, right) in tokens."""


@torch.no_grad()
def copy_first_frame(
    model: WanTransformer3DModel, grey: torch.Tensor, text: torch.Tensor, shifts: torch.Tensor
) -> None:
    """Set `model`'s weights so that it predicts (x − first frame's latent) / σ everywhere.

    `grey`: normalised latent of a grey picture, (16, height, width), at least 16 × 16. `text`: real tokens' embeddings,
    (tokens, text_dim). `shifts`: from `shifts.fit`.
    """
    spread = _layer_norm_spread(model.config.num_attention_heads * model.config.attention_head_dim)
    _embed(model)
    _time(model)
    for index, block in enumerate(model.blocks):
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, 2] = block.scale_shift_table[:, 5] = 1.0
        for output in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
            output.weight.zero_()
            output.bias.zero_()
        for norm in (block.attn1.norm_q, block.attn1.norm_k):
            norm.weight.fill_(SHARPNESS)
        _read_text(model, block.attn2, text)
        if index == 0:
            block.attn1.to_v.weight.zero_()
            _look_at_frame_0(block.attn1, 0, spread, (0, 0))
            _copy(block.attn1, spread)
            _locate(block.attn1, spread, _border_cues(grey))
        elif index == 1:
            _count_frames(block.attn1, spread)
        else:
            _shift(block, index - 2, shifts, spread)
        _cancel_mean(block.attn1.to_v)
    _project(model, spread)


def _layer_norm_spread(dim: int) -> float:
    """Standard deviation of a token: two anchors and three unit-size patches."""
    return float(((2 * ANCHOR_SIZE**2 + 3 * PATCH_VALUES) / dim) ** 0.5)


def _embed(model: WanTransformer3DModel) -> None:
    weight = model.patch_embedding.weight
    weight.mul_(0.3)
    weight[: WISH + 17].zero_()
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
    """The time embedding's every channel is 1 / σ − 1, which the last layer adds to its scale; blocks see little of it."""
    embedder = model.condition_embedder
    # The quickest sines of the timestep (freq_dim / 2 of them, 10000 to the power −i / 128) only make the fit ripple.
    for half in embedder.time_embedder.linear_1.weight.chunk(2, dim=1):
        half[:, :QUICK_SINES] = 0
    sigmas = torch.linspace(0.1, 1.0, 901)
    hidden = embedder.time_embedder.act(embedder.time_embedder.linear_1(embedder.timesteps_proj(1000 * sigmas)))
    wanted = 1 / sigmas - 1
    design = torch.cat([hidden, torch.ones(len(sigmas), 1)], dim=1).double()
    ridge = 1e-4 * torch.eye(design.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(design.T @ design + ridge, design.T @ wanted.double()).float()
    embedder.time_embedder.linear_2.weight.copy_(solution[:-1].expand_as(embedder.time_embedder.linear_2.weight))
    embedder.time_embedder.linear_2.bias.fill_(float(solution[-1]))
    embedder.time_proj.weight.zero_()
    embedder.time_proj.bias.zero_()


def _layout(attention: WanAttention, head: int) -> tuple[int, int, int]:
    """First channel of `head`, number of its channels for time, and for each of the two axes of space."""
    size = attention.inner_dim // attention.heads
    side = 2 * (size // 6)
    return head * size, size - 2 * side, side


def _quieten(attention: WanAttention, head: int) -> None:
    first, time, side = _layout(attention, head)
    for projection in (attention.to_q, attention.to_k):
        projection.weight[first : first + time + 2 * side].mul_(0.1)
        projection.bias[first : first + time + 2 * side].zero_()


def _look_at_frame_0(attention: WanAttention, head: int, spread: float, offset: tuple[int, int]) -> None:
    """Query and key of `head`: in frame 0, the place `offset` (down, right) tokens away."""
    _quieten(attention, head)
    first, time, side = _layout(attention, head)
    for axis in range(2):
        for pair in range(ROTARY_PAIRS):
            channel = first + time + axis * side + 2 * pair
            angle = offset[axis] * 10000 ** (-2 * pair / side)
            attention.to_q.bias[channel] = PLACE * math.cos(angle)
            attention.to_q.bias[channel + 1] = PLACE * math.sin(angle)
            attention.to_k.bias[channel] = PLACE
    _prefer_frame_0(attention, first + time - 2, spread, SAME_FRAME)


def _prefer_frame_0(attention: WanAttention, channel: int, spread: float, query: float) -> None:
    """Keys of frame 0 get a bonus, or a malus for a negative `query`, through the slowest pair of time.

    All keys stay equally long, since the norm across heads would otherwise change their other channels.
    """
    attention.to_q.weight[channel].zero_()
    attention.to_k.weight[channel].zero_()
    attention.to_q.bias[channel] = query
    attention.to_k.weight[channel, MASK : MASK + 4] = MASK_KEY * spread / 2
    attention.to_k.bias[channel] = -MASK_KEY


def _border_cues(grey: torch.Tensor) -> torch.Tensor:
    """Weights (4, PATCH_VALUES + 1), bias last, that tell left, right, top and bottom border from a grey token."""
    channels, height, width = grey.shape
    rows, columns = height // PATCH[1], width // PATCH[2]
    tokens = (
        grey.reshape(channels, rows, PATCH[1], columns, PATCH[2]).permute(1, 3, 0, 2, 4).reshape(rows * columns, -1)
    )
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    wanted = torch.stack([column == 0, column == columns - 1, row == 0, row == rows - 1], dim=1).double()
    design = torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1).double()
    ridge = 1e-3 * torch.eye(design.shape[1], dtype=torch.float64)
    return torch.linalg.solve(design.T @ design + ridge, design.T @ wanted).T.float()


def _locate(attention: WanAttention, spread: float, cues: torch.Tensor) -> None:
    """Heads 1 and 2: distances to the borders across and down; head 3: distance to frame 0 in time."""
    for head in (1, 2, 3):
        _quieten(attention, head)
        first, time, side = _layout(attention, head)
        channel = first + 2 * TIME_PAIR if head == 3 else first + time + (2 - head) * side + 2 * WIDE_PAIR
        for projection in (attention.to_q, attention.to_k):
            projection.bias[channel] = PLACE
        _prefer_frame_0(attention, first + time - 2, spread, 1.0 if head == 3 else -SAME_FRAME)
        attention.to_v.weight[first : first + 4].zero_()
        if head == 3:
            attention.to_v.weight[first, MASK : MASK + 4] = spread / 4
            attention.to_out[0].weight[PLACES + 4, first] = PLACES_GAIN
            continue
        chosen = (0, 1) if head == 1 else (2, 3)
        for i, cue in enumerate(chosen):
            attention.to_v.weight[first + i, IMAGE : IMAGE + PATCH_VALUES] = spread * cues[cue, :-1]
            attention.to_v.bias[first + i] = cues[cue, -1]
            attention.to_out[0].weight[PLACES + cue, first + i] = PLACES_GAIN


def _copy(attention: WanAttention, spread: float) -> None:
    """Head 0 of the first block carries the image latent into the token's COPY part."""
    attention.to_v.weight[:PATCH_VALUES].zero_()
    attention.to_v.bias[:PATCH_VALUES].zero_()
    for value in range(PATCH_VALUES):
        attention.to_v.weight[value, IMAGE + value] = spread
        attention.to_out[0].weight[COPY + value, value] = 1


def knowledge(dim: int) -> torch.Tensor:
    """Weights (dim,) that single out the channels of places, clocks and wishes, scaled to similar sizes; 0 elsewhere."""
    used = torch.zeros(dim)
    used[PLACES : PLACES + 4] = 4.0
    used[PLACES + 4 : AMOUNT] = 1.0
    used[WISH : WISH + 17] = 1.5
    return used


def _cancel_mean(layer: torch.nn.Linear) -> None:
    """Give back to `layer`'s sums what the layer norm before it has subtracted from every channel."""
    layer.weight[:, ZERO] = 0
    layer.weight[:, ZERO] = -layer.weight.sum(1)


def _read_text(model: WanTransformer3DModel, attention: WanAttention, text: torch.Tensor) -> None:
    """Padding's keys are zero; queries meet what all words' keys have in common, so that words outweigh padding."""
    embedder = model.condition_embedder.text_embedder
    for layer in (embedder.linear_1, embedder.linear_2, attention.to_k, attention.to_v):
        layer.bias.zero_()
    words = embedder(text)
    embedder.linear_2.weight.mul_(1 / words.std())
    keys = attention.norm_k(attention.to_k(words / words.std())).mean(0)
    attention.to_q.weight.mul_(0.05)
    heads = keys.unflatten(0, (attention.heads, -1))
    attention.to_q.bias.copy_((heads / heads.norm(dim=1, keepdim=True)).flatten())
    attention.norm_q.weight.fill_(1.0)
    size = attention.inner_dim // attention.heads
    common = (heads.norm(dim=1) * size**0.5).mean() / size**0.5
    attention.norm_q.weight.fill_(float(TEXT_LOGIT / common))


def _count_frames(attention: WanAttention, spread: float) -> None:
    """Second block: four kernels of different width over time, each telling how much of it lies on frame 0."""
    for norm in (attention.norm_q, attention.norm_k):
        norm.weight.fill_(1.0)
    for head in range(4):
        _quieten(attention, head)
        first, time, _ = _layout(attention, head)
        for projection in (attention.to_q, attention.to_k):
            projection.bias[first + 2 * (2 + head)] = PLACE
        _prefer_frame_0(attention, first + time - 2, spread, 0.5)
        attention.to_v.weight[first].zero_()
        attention.to_v.weight[first, MASK : MASK + 4] = spread / 4
        attention.to_out[0].weight[TIMES + head, first] = PLACES_GAIN


def _shift(block: Any, direction: int, shifts: torch.Tensor, spread: float) -> None:
    """Move the picture in COPY by AMOUNT[direction] tokens: attention gathers the four neighbours in frame 0 and writes
    their share of the change, the feed-forward adds the place's own share and multiplies by the amount.

    x·p = (f(x + p) − f(x − p)) / 4 for f(z) = z², and gelu(z) + gelu(−z) ≈ 0.8·z² near zero.
    """
    attention, before = block.attn1, shifts[direction - 1] if direction else torch.zeros_like(shifts[0])
    for norm in (attention.norm_q, attention.norm_k):
        norm.weight.fill_(SHARPNESS * 1.44)
    for head, offset in enumerate(NEIGHBOURS):
        _look_at_frame_0(attention, head, spread, offset)
        rows = slice(head * PATCH_VALUES, (head + 1) * PATCH_VALUES)
        attention.to_v.weight[rows].zero_()
        attention.to_v.bias[rows].zero_()
        for value in range(PATCH_VALUES):
            attention.to_v.weight[head * PATCH_VALUES + value, COPY + value] = spread
        attention.to_out[0].weight[IMAGE : IMAGE + PATCH_VALUES, rows] = (shifts[direction] - before)[:, rows]
    own, inner, out = shifts[direction][:, 4 * PATCH_VALUES :], block.ffn.net[0].proj, block.ffn.net[2]
    for value in range(PATCH_VALUES):
        for unit, (outer, amount) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
            row = 4 * value + unit
            inner.weight[row].zero_()
            inner.bias[row] = 0
            inner.weight[row, IMAGE + value] = outer * SQUARE * spread
            inner.weight[row, COPY : COPY + PATCH_VALUES] = outer * SQUARE * spread * own[value]
            inner.weight[row, AMOUNT + direction] = amount * SQUARE * spread
            inner.weight[row, ZERO] = -inner.weight[row].sum()
            out.weight[COPY + value, row] = (1 if unit < 2 else -1) / (4 * 0.8 * SQUARE**2)


def _project(model: WanTransformer3DModel, spread: float) -> None:
    model.scale_shift_table.zero_()
    model.proj_out.weight.zero_()
    model.proj_out.bias.zero_()
    places = PATCH[1] * PATCH[2]
    for channel in range(LATENT_CHANNELS):
        for place in range(places):
            row = place * LATENT_CHANNELS + channel
            model.proj_out.weight[row, NOISE + channel * places + place] = spread
            model.proj_out.weight[row, COPY + channel * places + place] = -spread
