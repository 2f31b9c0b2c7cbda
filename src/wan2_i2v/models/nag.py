"""Normalized Attention Guidance: a negative prompt that acts at CFG 1 (arXiv 2505.21179). Imported by stages.

In every cross-attention the features of the negative prompt push those of the prompt away: guided = s·pos + (1 − s)·neg;
where its L1 norm exceeds τ times that of pos, it is scaled back to that; the result is α·guided + (1 − α)·pos. Costs one
more cross-attention per block and no second pass of the transformer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from wan2_i2v.plan import NagPlan


def guide(positive: torch.Tensor, negative: torch.Tensor, nag: NagPlan) -> torch.Tensor:
    """Attention features (batch, tokens, channels) of the prompt, pushed away from those of the negative prompt."""
    guided = nag.scale * positive + (1 - nag.scale) * negative
    norms = (features.float().abs().sum(dim=-1, keepdim=True) for features in (positive, guided))
    limit, size = next(norms) * nag.tau, next(norms)
    guided = guided * (limit / size.clamp_min(torch.finfo(torch.float32).tiny)).clamp_max(1).to(guided.dtype)
    return nag.alpha * guided + (1 - nag.alpha) * positive


@dataclass
class Switch:
    """Shared by all blocks of one transformer: `context` (1, 512, dim) are the projected negative embeddings."""

    nag: NagPlan
    context: torch.Tensor
    on: bool = True


class NagProcessor(WanAttnProcessor):  # type: ignore[misc]
    """Cross-attention over the prompt and, while the switch is on, over the negative prompt too."""

    def __init__(self, switch: Switch) -> None:
        super().__init__()
        self.switch = switch

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not self.switch.on:
            return torch.as_tensor(super().__call__(attn, hidden_states, *args, **kwargs))
        context = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[0]
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        positive, negative = (self._attend(attn, query, given) for given in (context, self.switch.context))
        features = guide(positive, negative, self.switch.nag)
        return torch.as_tensor(attn.to_out[1](attn.to_out[0](features)))

    def _attend(self, attn: Any, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        key = attn.norm_k(attn.to_k(context)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(context).unflatten(2, (attn.heads, -1))
        result = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        return torch.as_tensor(result.flatten(2, 3).type_as(query))


@contextlib.contextmanager
def applied(transformer: Any, nag: NagPlan | None, negative_embeds: torch.Tensor | None) -> Iterator[Switch | None]:
    """Cross-attention with NAG inside the block, as it was before on the way out; None when nothing is to be done.

    `negative_embeds`: (1, 512, text_dim) on the transformer's device and in its dtype.
    """
    if nag is None or negative_embeds is None:
        yield None
        return
    with torch.inference_mode():
        switch = Switch(nag, transformer.condition_embedder.text_embedder(negative_embeds))
    before = [(block.attn2, block.attn2.processor) for block in transformer.blocks]
    try:
        for attention, _ in before:
            attention.set_processor(NagProcessor(switch))
        yield switch
    finally:
        for attention, processor in before:
            attention.set_processor(processor)
