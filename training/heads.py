"""Attention heads by construction: where a head looks, written into the weights of its query and key.

A pair of rotary channels with frequency ω, constant in query and key, adds β·cos(ω·distance) to a logit; turning the query
by ω·d moves the peak d tokens away. So the sum of a few pairs is a bump at any wanted, even fractional, distance. Keys of
the given frame and those of the other frames can be told apart by the mask, and one kind serves as a sink: where no token
lies within the bump, the head's output is zero instead of the nearest token. `initial` builds the experts from this.

Tokens are 16×16 pixels; axes are ordered (time, down, right).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.transformers.transformer_wan import WanAttention

OFFSETS = tuple(np.linspace(-0.85, 0.85, 8))
"""Where the heads that shift a picture look, in tokens beside the wanted place. Measured on held-out pictures: 29 dB for a
shift along one axis; 23 dB with four heads, 32 dB with twelve."""
BUMP, EXACT, OWN_FRAME = (60.0, 20.0, 2.0), (20.0, 10.0, 2.0), (10.0, 10.0, 4.0)
"""Logits of the fastest pairs: a bump 0.12 tokens wide; only this row or column; only this frame."""
SINK_SHARE, SINK_SIZE = 1.0, 16
"""The sink's weight against a token in the middle of the bump, and how many tokens long its row is unless told."""
PREFERENCE = 20.0
AVOID = -80.0

Pair = tuple[int, int]
"""(axis, number of the pair from the fastest on)."""


def frequency(axis: int, pair: int, size: int = 64) -> float:
    """Radians per token of a rotary pair, as diffusers' WanRotaryPosEmbed has them for heads of `size` channels."""
    side = 2 * (size // 6)
    width = size - 2 * side if axis == 0 else side
    return float(10000.0 ** (-2 * pair / width))


def channel(axis: int, pair: int, size: int = 64) -> int:
    """First channel of a pair within its head."""
    side = 2 * (size // 6)
    return (0, size - 2 * side, size - side)[axis] + 2 * pair


def bump(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Attention of a shifting head on tokens at `distance` (…, tokens) from the middle of its bump."""
    weights = np.exp(sum(b * (np.cos(frequency(2, j) * distance) - 1) for j, b in enumerate(BUMP)))
    return np.asarray(weights / (weights.sum(-1, keepdims=True) + SINK_SHARE))


@dataclass
class Head:
    """Logits wanted between a query and the keys of the given frame (`given`) and of all others (`other`), per pair.

    `phase` turns the query of a pair by so many radians; `turned` are pairs whose query is turned by features of the token
    (channels of cos and sin of the turn). `preference` is added for keys of the given frame, `preference_given` instead
    when the query is in that frame itself; `size` is a channel with log(tokens in the sink's row / SINK_SIZE) and the factor
    by which it is added too.
    """

    given: dict[Pair, float]
    other: dict[Pair, float]
    preference: float
    preference_given: float | None = None
    phase: dict[Pair, float] = field(default_factory=dict)
    turned: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    size: tuple[int, float] | None = None


def moved(axis: int, offset: float, cosines: dict[int, tuple[int, int]], size: int, *, from_given: bool) -> Head:
    """A head that looks `offset` tokens beside the turned place along `axis` (1 down, 2 right) and nowhere else.

    It reads the given frame's tokens and sinks into the same row or column of its own frame, or the other way round.
    `size`: see Head.
    """
    exact = {(3 - axis, j): b for j, b in enumerate(EXACT)}
    peak = exact | {(axis, j): b for j, b in enumerate(BUMP)}
    own = {(0, j): b for j, b in enumerate(OWN_FRAME)}
    phase = {(axis, j): offset * frequency(axis, j) for j in range(len(BUMP))}
    turned = {(axis, j): cosines[j] for j in range(len(BUMP))}
    share = math.log(SINK_SIZE / SINK_SHARE)
    if from_given:
        preference = sum(OWN_FRAME) - sum(BUMP) + share
        return Head(peak, exact | own, preference, AVOID, phase, turned, (size, 1.0))
    return Head(exact, peak | own, sum(BUMP) + sum(OWN_FRAME) - share, None, phase, turned, (size, -1.0))


def clock(pair: int, phase: float, swing: float = 2.0) -> Head:
    """A head whose weight on the given frame's token of the same place is sigmoid(swing · cos(ω·t + phase))."""
    place = {(axis, j): b for axis in (1, 2) for j, b in enumerate(EXACT)}
    own = {(0, j): b for j, b in ((0, 12.0), (1, 40.0), (2, 30.0), (3, 20.0)) if j != pair}
    return Head(place | {(0, pair): swing}, place | own, sum(own.values()), None, {(0, pair): phase})


def border(axis: int, width: float = 4.5) -> Head:
    """A wide kernel along `axis` over the tokens of all frames but the given one."""
    return Head({(axis, 3): width}, {(axis, 3): width}, AVOID)


@torch.no_grad()
def install(attention: WanAttention, wanted: list[Head], mask: slice, spread: float) -> None:
    """Write the queries and keys of all heads; `mask` are the token's four mask channels, `spread` its standard deviation."""
    size = attention.inner_dim // attention.heads
    for layer in (attention.to_q, attention.to_k):
        layer.weight.zero_()
        layer.bias.zero_()
    norms = [_install_one(attention, head, number * size, mask, spread) for number, head in enumerate(wanted)]
    # The norm goes over all heads together; the learned factor takes it back.
    attention.norm_q.weight.fill_(math.sqrt(sum(query for query, _ in norms) / attention.inner_dim))
    attention.norm_k.weight.fill_(math.sqrt(sum(key for _, key in norms) / attention.inner_dim))


def _install_one(attention: WanAttention, head: Head, first: int, mask: slice, spread: float) -> tuple[float, float]:
    """Returns the squared lengths of query and key."""
    size = attention.inner_dim // attention.heads
    scale = math.sqrt(size)
    query, key = attention.to_q, attention.to_k
    lengths = [0.0, 0.0, 0.0]
    for pair in head.given.keys() | head.other.keys():
        at, given, other = first + channel(*pair, size), head.given.get(pair, 0.0), head.other.get(pair, 0.0)
        amplitude = math.sqrt(scale * max(given, other))
        phase = head.phase.get(pair, 0.0)
        cosine, sine = amplitude * math.cos(phase), amplitude * math.sin(phase)
        if pair in head.turned:
            for row, (of_cosine, of_sine) in enumerate(((cosine, -sine), (sine, cosine))):
                query.weight[at + row, head.turned[pair][0]] = of_cosine * spread
                query.weight[at + row, head.turned[pair][1]] = of_sine * spread
        else:
            query.bias[at], query.bias[at + 1] = cosine, sine
        keys = scale * given / amplitude, scale * other / amplitude
        key.bias[at] = keys[1]
        key.weight[at, mask] = (keys[0] - keys[1]) * spread / 4
        lengths = [lengths[0] + amplitude**2, lengths[1] + keys[0] ** 2, lengths[2] + keys[1] ** 2]
    slowest = size // 2 - 2 * (size // 6) - 1
    favour = first + channel(0, slowest, size)
    query.bias[favour] = head.preference * scale / PREFERENCE
    if head.preference_given is not None:
        query.weight[favour, mask] = (head.preference_given - head.preference) * scale / PREFERENCE * spread / 4
    if head.size is not None:
        query.weight[favour, head.size[0]] = head.size[1] * scale / PREFERENCE * spread
    key.weight[favour, mask] = PREFERENCE * spread / 4
    # Not in the same pair: over many frames even the slowest turns a little, and this logit is large.
    _even_out(key, first + channel(0, slowest - 1, size), (lengths[1] + PREFERENCE**2, lengths[2]), mask, spread)
    return lengths[0] + float(query.bias[favour]) ** 2, max(lengths[1] + PREFERENCE**2, lengths[2])


def _even_out(key: torch.nn.Linear, at: int, lengths: tuple[float, float], mask: slice, spread: float) -> None:
    """Make keys of both kinds equally long through a channel that no query looks at, since their norm is divided out."""
    given, other = (math.sqrt(max(lengths) - length) for length in lengths)
    key.bias[at] = other
    key.weight[at, mask] = (given - other) * spread / 4
