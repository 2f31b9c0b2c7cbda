"""Attention of Wan's blocks in little memory: rotary in place, heads in groups, text keys and values kept.

Comes in: diffusers' `WanAttention` modules and rows of tokens. Goes out: what `WanAttnProcessor` computes, in the same
order of operations. Linear layers are called as modules, so hooks on them (LoRAs) and exchanged weights work. Imported
by `lean` and `nag`.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn

from wan2_i2v.acceleration import Attention
from wan2_i2v.errors import DeviceError
from wan2_i2v.models.definitions import WanAttnProcessor

BACKENDS: dict[Attention, AttentionBackendName] = {
    "sdpa": AttentionBackendName.NATIVE,
    "sage": AttentionBackendName.SAGE,
    "flash": AttentionBackendName.FLASH,
}
"""Kernels by diffusers' name for them."""

KEPT_TEXTS = 3
"""Prompts whose keys and values are kept at once: prompt, negative prompt, and one to come."""


def usable_backend(attention: Attention) -> AttentionBackendName:
    """diffusers' backend of that name.

    Raises DeviceError when its package is missing, or too old for diffusers.
    """
    backend = BACKENDS[attention]
    try:
        with attention_backend(backend):
            return backend
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"attention {attention} cannot be used: {error} Or plan with --attention sdpa.") from error


def rotate(rows: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    """Apply rotary embeddings to (1, tokens, heads, head_dim), in place where float32.

    `rotary`: (1, tokens, 1, head_dim / 2) complex64. Pairs of neighbours are complex numbers: (x1 + i·x2)(cos + i·sin)
    is diffusers' x1·cos − x2·sin, x1·sin + x2·cos.
    """
    wide = rows if rows.dtype == torch.float32 else rows.float()
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    pairs.mul_(rotary)
    return rows if wide is rows else rows.copy_(wide)


def attend_by_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: int, backend: Any) -> None:
    """Self-attention of (1, tokens, heads, head_dim), `group` heads at a time; the result replaces `query`."""
    for first in range(0, query.shape[2], group):
        heads = slice(first, first + group)
        query[:, :, heads] = dispatch_attention_fn(
            query[:, :, heads], key[:, :, heads], value[:, :, heads], backend=backend
        )


class TextProcessor(WanAttnProcessor):  # type: ignore[misc]
    """Cross-attention that computes a text's keys and values once, as long as the very same text tensor comes."""

    def __init__(self, keep: bool, backend: AttentionBackendName | None = None) -> None:
        super().__init__()
        self.keep = keep
        self._attention_backend = backend
        self._kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        features = self.attend(attn, query, encoder_hidden_states)
        return torch.as_tensor(attn.to_out[1](attn.to_out[0](features)))

    def attend(self, attn: Any, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Features (1, tokens, dim) of queries (1, tokens, heads, head_dim) over a projected text."""
        key, value = self.keys(attn, context)
        features = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        return torch.as_tensor(features.flatten(2, 3).type_as(query))

    def keys(self, attn: Any, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (1, text tokens, heads, head_dim) of a projected text (1, text tokens, dim)."""
        for text, key, value in self._kept:
            if text is context:
                return key, value
        key, value = text_keys(attn, context)
        if self.keep:
            self._kept = [*self._kept[1 - KEPT_TEXTS :], (context, key, value)]
        return key, value


def text_keys(attn: Any, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a projected text, computed."""
    key = attn.norm_k(attn.to_k(context)).unflatten(2, (attn.heads, -1))
    return key, attn.to_v(context).unflatten(2, (attn.heads, -1))
