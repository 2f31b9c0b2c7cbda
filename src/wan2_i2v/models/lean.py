"""The transformer's forward pass in little memory: four tensors of hidden size at the peak, same arithmetic.

Comes in: diffusers' own `WanTransformer3DModel`. `apply` replaces the forward method of that one instance, not the
class: residuals are added in place, norms, modulations and the feed-forward work on chunks of tokens, attention on
groups of heads whose result replaces the queries, the projected text and its keys and values are computed once. Blocks
come from a `Blocks` provider, so that their weights may be resident or streamed. Imported by `components`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch

from wan2_i2v.models.attention import KEPT_TEXTS, TextProcessor, attend_by_heads, rotate


@dataclass(frozen=True)
class Chunking:
    """How much is computed at once: tokens of a chunk, heads of a group; whether text keys and values are kept."""

    tokens: int
    heads: int
    keep_text: bool = True


@dataclass(frozen=True)
class Pieces:
    """The parts of a block between its attentions, on a chunk of tokens; see the functions of these names."""

    modulated: Callable[..., torch.Tensor]
    project: Callable[..., torch.Tensor]
    feed_forward: Callable[..., None]
    put_back: Callable[..., None]


@dataclass(frozen=True)
class Kernels:
    """What computes: diffusers' attention backend (None: its active one), and the pieces, plain or compiled."""

    attention: Any
    pieces: Pieces


class Blocks(Protocol):
    """Makes a block's weights available for as long as a context is open."""

    def ready(self, index: int) -> AbstractContextManager[None]: ...


class Resident:
    """All blocks are where they are needed already."""

    def ready(self, index: int) -> AbstractContextManager[None]:
        return nullcontext()


def apply(transformer: Any, chunking: Chunking, blocks: Blocks, kernels: Kernels | None = None) -> Any:
    """Give this instance the lean forward method; returns it."""
    kernels = kernels or Kernels(None, PLAIN)
    for block in transformer.blocks:
        block.attn2.set_processor(TextProcessor(chunking.keep_text, kernels.attention))
    transformer.forward = LeanForward(transformer, chunking, blocks, kernels)
    return transformer


class LeanForward:
    """`WanTransformer3DModel.forward` for I2V A14B: one clip, one timestep, no image embeddings."""

    def __init__(self, transformer: Any, chunking: Chunking, blocks: Blocks, kernels: Kernels) -> None:
        self._model, self._chunking, self._blocks, self._kernels = transformer, chunking, blocks, kernels
        self._texts: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rotary: tuple[torch.Size, torch.Tensor] | None = None

    def __call__(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool = True,
    ) -> Any:
        """(1, 36, frames, height, width), (1,), (1, 512, text_dim) → (1, 16, frames, height, width)."""
        model = self._model
        size, rotary = hidden_states.shape[2:], self._rotary_of(hidden_states)
        time, modulation, text = self._embed(timestep, encoder_hidden_states)
        hidden = model.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()
        for index, block in enumerate(model.blocks):
            with self._blocks.ready(index):
                run_block(block, hidden, text, modulation, rotary, self._chunking, self._kernels)
        output = self._unpatch(self._project(hidden, time), size)
        if not return_dict:
            return (output,)
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        return Transformer2DModelOutput(sample=output)

    def _embed(self, timestep: torch.Tensor, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Time embedding (1, dim), modulation (1, 6, dim), projected text (1, 512, dim)."""
        embedder = self._model.condition_embedder
        wave = embedder.timesteps_proj(timestep)
        wave = wave.to(next(embedder.time_embedder.parameters()).dtype)
        time = embedder.time_embedder(wave).type_as(embeds)
        modulation = embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1))
        return time, modulation, self._text(embeds)

    def _text(self, embeds: torch.Tensor) -> torch.Tensor:
        """The projected text; the same tensor for the same embeddings, which is how keys and values are found again."""
        for known, projected in self._texts:
            if known is embeds:
                return projected
        projected = torch.as_tensor(self._model.condition_embedder.text_embedder(embeds))
        self._texts = [*self._texts[1 - KEPT_TEXTS :], (embeds, projected)]
        return projected

    def _rotary_of(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The rotary table (1, tokens, 1, head_dim / 2), complex; made once per size."""
        if self._rotary is None or self._rotary[0] != hidden_states.shape[2:]:
            cos, sin = self._model.rope(hidden_states)
            self._rotary = hidden_states.shape[2:], torch.complex(cos[..., 0::2].float(), sin[..., 1::2].float())
        return self._rotary[1]

    def _project(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Output norm and projection: (1, tokens, out_channels · patch)."""
        model = self._model
        shift, scale = (model.scale_shift_table.to(time.device) + time.unsqueeze(1)).chunk(2, dim=1)
        rows = [
            model.proj_out(modulated(model.norm_out, hidden[:, part], 1 + scale, shift))
            for part in chunks(hidden.shape[1], self._chunking.tokens)
        ]
        return torch.cat(rows, dim=1)

    def _unpatch(self, rows: torch.Tensor, size: torch.Size) -> torch.Tensor:
        frames, height, width = size
        t, h, w = self._model.config.patch_size
        grid = rows.reshape(1, frames // t, height // h, width // w, t, h, w, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return grid.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def run_block(
    block: Any,
    hidden: torch.Tensor,
    text: torch.Tensor,
    modulation: torch.Tensor,
    rotary: torch.Tensor,
    chunking: Chunking,
    kernels: Kernels,
) -> None:
    """`WanTransformerBlock` on (1, tokens, dim), in place."""
    table = block.scale_shift_table + modulation.float()
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.chunk(6, dim=1)
    _self_attention(block, hidden, (shift, 1 + scale, gate), rotary, chunking, kernels)
    ffn_scale = 1 + ffn_scale
    for part in chunks(hidden.shape[1], chunking.tokens):
        rows = hidden[:, part]
        rows += block.attn2(block.norm2(rows.float()).type_as(rows), text, None, None)
        kernels.pieces.feed_forward(block.ffn, block.norm3, rows, ffn_scale, ffn_shift, ffn_gate)


def _self_attention(
    block: Any,
    hidden: torch.Tensor,
    modulation: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    rotary: torch.Tensor,
    chunking: Chunking,
    kernels: Kernels,
) -> None:
    """Add the gated self-attention to `hidden` in place; holds queries, keys and values beside it, no fourth tensor."""
    attn, (shift, scale, gate), pieces = block.attn1, modulation, kernels.pieces
    query, key, value = (torch.empty_like(hidden).unflatten(2, (attn.heads, -1)) for _ in range(3))
    for part in chunks(hidden.shape[1], chunking.tokens):
        turn = rotary[:, part]
        rows = pieces.modulated(block.norm1, hidden[:, part], scale, shift)
        query[:, part] = rotate(pieces.project(attn.to_q, attn.norm_q, rows).unflatten(2, (attn.heads, -1)), turn)
        key[:, part] = rotate(pieces.project(attn.to_k, attn.norm_k, rows).unflatten(2, (attn.heads, -1)), turn)
        value[:, part] = attn.to_v(rows).unflatten(2, (attn.heads, -1))
    attend_by_heads(query, key, value, chunking.heads, kernels.attention)
    del key, value
    features = query.flatten(2, 3)
    for part in chunks(hidden.shape[1], chunking.tokens):
        pieces.put_back(attn.to_out, features[:, part], hidden[:, part], gate)


def project(linear: Any, norm: Any, rows: torch.Tensor) -> torch.Tensor:
    """Normalised queries or keys (1, tokens, dim) of a modulated chunk, not yet rotated."""
    return torch.as_tensor(norm(linear(rows)))


def feed_forward(
    ffn: Any, norm: Any, rows: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, gate: torch.Tensor
) -> None:
    """Add the gated feed-forward to a chunk (1, tokens, dim), in place."""
    add_gated(rows, ffn(modulated(norm, rows, scale, shift)), gate)


def put_back(to_out: Any, features: torch.Tensor, rows: torch.Tensor, gate: torch.Tensor) -> None:
    """Add the gated, projected attention of a chunk to it, in place."""
    add_gated(rows, to_out[1](to_out[0](features)), gate)


def modulated(norm: Any, rows: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """norm(rows) · scale + shift in float32, back in the dtype of `rows`."""
    return torch.as_tensor(norm(rows.float())).mul_(scale).add_(shift).type_as(rows)


def add_gated(rows: torch.Tensor, update: torch.Tensor, gate: torch.Tensor) -> None:
    """rows += update · gate, computed in float32, in place. `update` is used up."""
    wide = update.float().mul_(gate)
    if rows.dtype == torch.float32:
        rows.add_(wide)
    else:
        rows.copy_(wide.add_(rows))


PLAIN = Pieces(modulated, project, feed_forward, put_back)


@cache
def compiled_pieces() -> Pieces:
    """The pieces compiled, for chunks of any number of tokens; all blocks share the code.

    Attention and the rotary tables stay as they are: the one has kernels of its own, the other complex numbers, which
    torch's compiler does not take. Results differ from the plain pieces in rounding.
    """
    compiled: list[Any] = [torch.compile(piece, dynamic=True) for piece in (modulated, project, feed_forward, put_back)]
    return Pieces(*compiled)


def chunks(tokens: int, size: int) -> Iterator[slice]:
    """Slices that cover `tokens` in steps of `size`."""
    return (slice(first, min(first + size, tokens)) for first in range(0, tokens, size))
