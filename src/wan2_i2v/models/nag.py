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

from wan2_i2v.models.attention import TextProcessor
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


class NagProcessor(TextProcessor):
    """Cross-attention over the prompt and, while the switch is on, over the negative prompt too."""

    def __init__(self, switch: Switch, keep: bool, backend: Any = None) -> None:
        super().__init__(keep, backend)
        self.switch = switch

    def attend(self, attn: Any, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        positive = super().attend(attn, query, context)
        if not self.switch.on:
            return positive
        return guide(positive, super().attend(attn, query, self.switch.context), self.switch.nag)


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
        for attention, processor in before:
            # Keys of a text are kept where the lean forward keeps them; a plain forward projects the text anew each time.
            keep = isinstance(processor, TextProcessor) and processor.keep
            attention.set_processor(NagProcessor(switch, keep, processor._attention_backend))
        yield switch
    finally:
        for attention, processor in before:
            attention.set_processor(processor)
