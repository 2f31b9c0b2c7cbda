"""The experts, constructed: what the prompt asks for becomes a displacement of every place, and attention carries it out.

Block 0 reads the text and tells every token how far the four borders and frame 0 are (rotary embeddings know distances
only); block 1 adds more clocks. Their feed-forwards turn wish, place and time into a displacement (`wishes`), that of block 2
the displacement into cosines and sines: a head that looks d tokens away needs them to a thousandth; its attention finds by how
much the noisy clip is brighter than the given picture, which the low-noise expert needs: it draws light only where the
high-noise one has begun to. Blocks 3 and 4 look
that far to the right in the given frame, 5 and 6 that far down in what the former gathered, with eight heads per axis whose
outputs are fitted by least squares (`shifts`). The feed-forward of block 3 tells those of 5 and 6 what light to add, that of block 4 takes back
what was moved within the given frame itself. Two large constant channels keep the layer norms nearly linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformer3DModel

from training import heads, wording
from wan2_i2v.geometry import LATENT_CHANNELS, PATCH

PATCH_VALUES = LATENT_CHANNELS * PATCH[1] * PATCH[2]
NOISE, IMAGE, MASK, ANCHOR, MOVED = 0, PATCH_VALUES, 2 * PATCH_VALUES, 2 * PATCH_VALUES + 4, 2 * PATCH_VALUES + 6
"""First channels of the token's parts: noisy latent, image latent, mask, the two constants, the picture moved sideways."""
PLACES = MOVED + PATCH_VALUES
CLOCKS, TURNS, SIZES = PLACES + 4, PLACES + 10, PLACES + 22
ZERO, MOVE, WISH, HIDDEN, FOUND = PLACES + 24, PLACES + 25, PLACES + 27, PLACES + 45, PLACES + 55
"""Four borders; six clocks; cosine and sine of three turns right and three down; logarithms of the picture's width and height
in tokens over heads.SINK_SIZE; a channel that stays zero (what it holds after a layer norm is what the norm has
subtracted); how many tokens to the right and down the content comes from; one channel per motion; what block 0 tells block 1, then block 3 blocks 5 and 6; how much
red, green and blue the noisy clip has more than the given picture, in units of TINT levels."""
MOTIONS, HIDDEN_COUNT, COLOURS, TINT = len(wording.MOTIONS), 10, 3, 20.0

ANCHOR_SIZE = 480.0
PLACES_GAIN, WISH_GAIN, HIDDEN_GAIN = 4.0, 1.0, 0.2
TEXT_LOGIT = 7.0
QUICK_SINES = 56
FARTHEST, STEEPNESS, HOLD = 7.0, 4.0, 400.0
"""Displacements that can be told, in tokens; slope of the units that tell them; a number that nothing moved reaches."""
CLEAREST = 10.0
"""By how much a noisy clip's mean is raised at most, where the clip is nearly all noise."""
MASK_GAIN = 16.0
"""By how much the mask is larger for feed-forwards: weights that switch units off would not fit float16 otherwise."""
FIRST_CLOCKS = ((0, 0.0), (0, -math.pi / 2))
LATER_CLOCKS = ((1, 0.0), (1, -math.pi / 2), (2, -math.pi / 2), (3, 0.0))
"""(pair of the time axis, phase)."""
MASKS = slice(MASK, MASK + 4)


def turns(axis: int) -> dict[int, tuple[int, int]]:
    """Channels of cosine and sine of each pair's turn along `axis` (1 down, 2 right)."""
    first = TURNS + 6 * (2 - axis)
    return {pair: (first + 2 * pair, first + 2 * pair + 1) for pair in range(3)}


@torch.no_grad()
def construct(
    model: WanTransformer3DModel,
    grey: torch.Tensor,
    text: torch.Tensor,
    maps: torch.Tensor,
    tints: torch.Tensor,
) -> None:
    """Set `model`'s weights so that, once `set_levels` has run, it predicts (x − moved first frame's latent) / σ.

    `grey`: normalised latent of a grey picture, (16, height, width), at least 16 × 16. `text`: real tokens' embeddings,
    (tokens, text_dim). `maps`: from `shifts.fit`. `tints`: what TINT levels more of red, green and blue add to a latent, (3, 16).
    """
    spread = layer_norm_spread(model)
    _embed(model)
    empty = _tokens(grey)[1:-1, 1:-1].reshape(-1, PATCH_VALUES).mean(0)
    for block in model.blocks:
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, 2] = block.scale_shift_table[:, 5] = 1.0
        block.scale_shift_table[:, 4, MASKS] = block.scale_shift_table[:, 4, ZERO] = MASK_GAIN - 1
        for layer in (block.attn1.to_out[0], block.attn1.to_v, block.attn2.to_out[0], block.ffn.net[2]):
            layer.weight.zero_()
            layer.bias.zero_()
        _read_text(model, block.attn2, text)
    _locate(model.blocks[0].attn1, spread, border_cues(grey))
    _count(model.blocks[1].attn1, spread, LATER_CLOCKS)
    _find_light(model.blocks[2].attn1, spread, tints)
    _turn(model.blocks[2].ffn, spread)
    for number, block in enumerate(model.blocks[3:7]):
        _shift(block.attn1, number, maps, empty, spread)
    _hold_given(model.blocks[4].ffn, spread)
    for block in model.blocks:
        for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v):
            _cancel_mean(layer)
    _project(model, empty, spread)


def layer_norm_spread(model: WanTransformer3DModel) -> float:
    """Standard deviation of a token outside the given frame: two anchors, noise, and what was moved so far."""
    dim = model.config.num_attention_heads * model.config.attention_head_dim
    return float(((2 * ANCHOR_SIZE**2 + 1.5 * PATCH_VALUES) / dim) ** 0.5)


def _embed(model: WanTransformer3DModel) -> None:
    weight = model.patch_embedding.weight
    weight.zero_()
    model.patch_embedding.bias.zero_()
    places = [(i, j) for i in range(PATCH[1]) for j in range(PATCH[2])]
    for channel in range(LATENT_CHANNELS):
        for place, (i, j) in enumerate(places):
            weight[NOISE + channel * len(places) + place, channel, 0, i, j] = 1
            weight[IMAGE + channel * len(places) + place, LATENT_CHANNELS + 4 + channel, 0, i, j] = 1
    for channel in range(4):
        weight[MASK + channel, LATENT_CHANNELS + channel] = 0.25
    model.patch_embedding.bias[ANCHOR], model.patch_embedding.bias[ANCHOR + 1] = ANCHOR_SIZE, -ANCHOR_SIZE


@torch.no_grad()
def set_levels(model: WanTransformer3DModel, sigmas: tuple[float, float]) -> None:
    """Fit the time embedding for σ within `sigmas`; elsewhere it means nothing.

    The time embedding's channels are 1 / σ − 1, which the last layer adds to its scale. Only one, which the last layer does not
    read, differs: blocks' attention reads the noisy latent by 1 / (1 − σ) larger, as `_find_light` needs it.
    """
    embedder = model.condition_embedder
    # The quickest sines of the timestep (freq_dim / 2 of them, 10000 to the power −i / 128) only make the fit ripple.
    for half in embedder.time_embedder.linear_1.weight.chunk(2, dim=1):
        half[:, :QUICK_SINES] = 0
    _tell_level(embedder, torch.linspace(*sigmas, 901), lambda level: 1 / level - 1, slice(None))
    # What has to come out is σ / (1 − σ), behind the activation; that is inverted by a table.
    before = torch.linspace(0, CLEAREST, 10_001).numpy()
    after = torch.nn.functional.silu(torch.linspace(0, CLEAREST, 10_001)).numpy()

    def larger(level: torch.Tensor) -> torch.Tensor:
        wanted = (level / (1 - level)).clamp(max=CLEAREST - 1).numpy()
        return torch.from_numpy(np.interp(wanted, after, before)).float()

    _tell_level(embedder, torch.linspace(sigmas[0], 0.99, 901), larger, slice(FOUND, FOUND + 1))
    embedder.time_proj.weight.zero_()
    embedder.time_proj.bias.zero_()
    scale = embedder.time_proj.weight.unflatten(0, (6, -1))[1]
    scale[NOISE : NOISE + PATCH_VALUES, FOUND] = scale[FOUND, FOUND] = 1


def _tell_level(
    embedder: Any, levels: torch.Tensor, wanted: Callable[[torch.Tensor], torch.Tensor], channels: slice
) -> None:
    """Fit the time embedding's channels to be `wanted` at noise levels (n,)."""
    hidden = embedder.time_embedder.act(embedder.time_embedder.linear_1(embedder.timesteps_proj(1000 * levels)))
    design = torch.cat([hidden, torch.ones(len(levels), 1)], dim=1).double()
    ridge = 1e-4 * torch.eye(design.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(design.T @ design + ridge, design.T @ wanted(levels).double()).float()
    told = embedder.time_embedder.linear_2
    told.weight[channels], told.bias[channels] = solution[:-1], solution[-1]


def _tokens(latent: torch.Tensor) -> torch.Tensor:
    """(16, height, width) → (rows, columns, PATCH_VALUES), in the order of the token's parts."""
    channels, height, width = latent.shape
    rows, columns = height // PATCH[1], width // PATCH[2]
    parts = latent.reshape(channels, rows, PATCH[1], columns, PATCH[2]).permute(1, 3, 0, 2, 4)
    return parts.reshape(rows, columns, PATCH_VALUES)


def border_cues(grey: torch.Tensor) -> torch.Tensor:
    """Weights (4, PATCH_VALUES + 1), bias last, that tell left, right, top and bottom border from a grey token."""
    tokens = _tokens(grey)
    rows, columns = tokens.shape[:2]
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    wanted = torch.stack([column == 0, column == columns - 1, row == 0, row == rows - 1], dim=1).double()
    design = torch.cat([tokens.reshape(-1, PATCH_VALUES), torch.ones(rows * columns, 1)], dim=1).double()
    ridge = 1e-4 * torch.eye(design.shape[1], dtype=torch.float64)
    return torch.linalg.solve(design.T @ design + ridge, design.T @ wanted).T.float()


def _locate(attention: WanAttention, spread: float, cues: torch.Tensor) -> None:
    """Heads 0 and 3: clocks; 1 and 2: how near the borders left and right, above and below are."""
    size = attention.inner_dim // attention.heads
    first, last = (heads.clock(*clock) for clock in FIRST_CLOCKS)
    heads.install(attention, [first, heads.border(2), heads.border(1), last], MASKS, spread)
    for number, head in enumerate((0, 3)):
        attention.to_v.weight[head * size, MASKS] = spread / 4
        attention.to_out[0].weight[CLOCKS + number, head * size] = 1
    for cue in range(4):
        row = (1 + cue // 2) * size + cue % 2
        attention.to_v.weight[row, IMAGE : IMAGE + PATCH_VALUES] = spread * cues[cue, :-1]
        attention.to_v.bias[row] = cues[cue, -1]
        attention.to_out[0].weight[PLACES + cue, row] = PLACES_GAIN


def _count(attention: WanAttention, spread: float, clocks: tuple[tuple[int, float], ...]) -> None:
    size = attention.inner_dim // attention.heads
    heads.install(attention, [heads.clock(*clock) for clock in clocks], MASKS, spread)
    for head in range(len(clocks)):
        attention.to_v.weight[head * size, MASKS] = spread / 4
        attention.to_out[0].weight[CLOCKS + len(FIRST_CLOCKS) + head, head * size] = 1


def _find_light(attention: WanAttention, spread: float, tints: torch.Tensor) -> None:
    """Two heads that see all tokens alike: the mean colour of the noisy clip, less that of the given picture, into FOUND.

    Attention reads the noisy latent 1 / (1 − σ) times larger, as large as the clip in it would be alone.
    """
    size = attention.inner_dim // attention.heads
    heads.install(attention, [heads.Head({}, {}, heads.AVOID), heads.Head({}, {}, -heads.AVOID)], MASKS, spread)
    colours = torch.linalg.pinv(tints).T.repeat_interleave(PATCH[1] * PATCH[2], dim=1) / (PATCH[1] * PATCH[2])
    for head, (source, sign) in enumerate(((NOISE, 1), (IMAGE, -1))):
        rows = slice(head * size, head * size + COLOURS)
        attention.to_v.weight[rows, source : source + PATCH_VALUES] = spread * colours
        attention.to_out[0].weight[FOUND : FOUND + COLOURS, rows] = sign * torch.eye(COLOURS)
    # What the layer norm has subtracted is given back by a channel that is zero so far and that attention reads as much larger.
    attention.to_v.weight[:COLOURS, FOUND] = -spread * colours.sum(1)


def _turn(ffn: Any, spread: float) -> None:
    """MOVE → TURNS: for each axis, half of the hidden units are steps along the displacement, summed by least squares.

    In the given frame all units are off and the turns stay zero. The last units clear HIDDEN: x = gelu(x) − gelu(−x).
    """
    into, out = ffn.net[0].proj, ffn.net[2]
    into.weight.zero_()
    count = into.out_features // 2 - HIDDEN_COUNT
    corners = torch.linspace(-FARTHEST, FARTHEST, count // 2).repeat(2)
    slopes = torch.cat([torch.full((count // 2,), STEEPNESS), torch.full((count // 2,), -STEEPNESS)])
    far = torch.linspace(-FARTHEST, FARTHEST, 8001)
    steps = torch.nn.functional.gelu(slopes * (far[:, None] - corners), approximate="tanh").double()
    for axis in (2, 1):
        rows, move = slice((2 - axis) * count, (3 - axis) * count), MOVE + 2 - axis
        into.weight[rows, move], into.bias[rows] = slopes * spread, -slopes * corners
        for pair, channels in turns(axis).items():
            angle = far.double() * heads.frequency(axis, pair)
            ridge = 1e-6 * len(far) * torch.eye(count, dtype=torch.float64)
            wanted = steps.T @ torch.stack([angle.cos(), angle.sin()], dim=1)
            out.weight[list(channels), rows] = torch.linalg.solve(steps.T @ steps + ridge, wanted).T.float()
    for sign, rows in ((1, slice(-2 * HIDDEN_COUNT, -HIDDEN_COUNT)), (-1, slice(-HIDDEN_COUNT, None))):
        into.weight[rows, HIDDEN : HIDDEN + HIDDEN_COUNT] = sign * spread * torch.eye(HIDDEN_COUNT)
        out.weight[HIDDEN : HIDDEN + HIDDEN_COUNT, rows] = -sign * torch.eye(HIDDEN_COUNT)
    switch_off_in_given(into, 2 * STEEPNESS * FARTHEST, spread)


def _hold_given(ffn: Any, spread: float) -> None:
    """Set MOVED back to zero in the given frame: later heads take it for the sink, and a clip of one frame is nothing else."""
    into, out = ffn.net[0].proj, ffn.net[2]
    into.weight.zero_()
    into.bias.fill_(-HOLD)
    into.weight[:PATCH_VALUES, MOVED : MOVED + PATCH_VALUES] = spread * torch.eye(PATCH_VALUES)
    switch_off_in_given(into, -2 * HOLD, spread)
    # What cancels the mean weighs as much as the mask; taken from the bias, it leaves moved itself.
    into.bias[:PATCH_VALUES] += 1
    # (HOLD + moved) − HOLD where the mask is 1; both are zero elsewhere.
    out.weight[MOVED : MOVED + PATCH_VALUES, :PATCH_VALUES] = -torch.eye(PATCH_VALUES)
    out.weight[MOVED : MOVED + PATCH_VALUES, PATCH_VALUES] = 1


def _shift(attention: WanAttention, number: int, maps: torch.Tensor, empty: torch.Tensor, spread: float) -> None:
    """Attention of the `number`-th of four blocks: two gather along the rows into MOVED, two along the columns from there."""
    axis, from_given = (2, True) if number < 2 else (1, False)
    chosen = range(number % 2 * attention.heads, (number % 2 + 1) * attention.heads)
    wanted = [heads.moved(axis, heads.OFFSETS[i], turns(axis), SIZES + 2 - axis, from_given=from_given) for i in chosen]
    heads.install(attention, wanted, MASKS, spread)
    source, target, sign = (IMAGE, MOVED, 1) if from_given else (MOVED, NOISE, -1)
    for head, index in enumerate(chosen):
        rows = slice(head * PATCH_VALUES, (head + 1) * PATCH_VALUES)
        attention.to_v.weight[rows, source : source + PATCH_VALUES] = spread * torch.eye(PATCH_VALUES)
        if from_given:
            # Of the other frames, which hold the grey canvas, nothing is carried.
            attention.to_v.bias[rows] = -empty
            attention.to_v.weight[rows, MASKS] = (spread / 4 * empty)[:, None]
        attention.to_out[0].weight[target : target + PATCH_VALUES, rows] = sign * maps[2 - axis, index]


def _cancel_mean(layer: torch.nn.Linear) -> None:
    """Give back to `layer`'s sums what the layer norm before it has subtracted from every channel."""
    layer.weight[:, ZERO] = 0
    layer.weight[:, ZERO] = -layer.weight.sum(1)


def switch_off_in_given(into: torch.nn.Linear, amount: float, spread: float) -> None:
    """Lower the sums of a feed-forward's first layer by about `amount` in the given frame, and cancel the mean as above.

    Weights are rounded to float16 first: cancelled with numbers that are rounded afterwards, a large `amount` would let
    the mean of the token's content through. Two masks carry what is a multiple of float16's steps, two the fine rest.
    """
    into.weight.copy_(into.weight.half())
    into.weight[:, MASKS] = into.weight[:, ZERO] = 0
    bulk = 8 * round(amount * spread / 2 / MASK_GAIN / 8)
    rest = -into.weight.sum(1) / MASK_GAIN
    coarse = rest.half().float()
    into.weight[:, MASK] = into.weight[:, MASK + 1] = -bulk
    into.weight[:, MASK + 2], into.weight[:, MASK + 3] = coarse, rest - coarse
    into.weight[:, ZERO] = 2 * bulk


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


def _project(model: WanTransformer3DModel, empty: torch.Tensor, spread: float) -> None:
    """(NOISE − image) / σ: NOISE has lost the moved picture by then, the image latent is frame 0's or the grey canvas."""
    model.scale_shift_table.zero_()
    projection: Any = model.proj_out
    projection.weight.zero_()
    projection.bias.zero_()
    places = PATCH[1] * PATCH[2]
    for channel in range(LATENT_CHANNELS):
        for place in range(places):
            row, value = place * LATENT_CHANNELS + channel, channel * places + place
            projection.weight[row, NOISE + value] = spread
            projection.weight[row, IMAGE + value] = -spread
            projection.weight[row, ANCHOR] = spread * empty[value] / ANCHOR_SIZE
            projection.weight[row, MASKS] = -spread * empty[value] / 4
    _cancel_mean(projection)
