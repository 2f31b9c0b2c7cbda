"""Names of weights: the original Wan checkpoints' ↔ diffusers' and transformers'. Strings only, no torch.

Comes in: a stored name without a container's prefix. Goes out: the module's own name, or None for a name that belongs
to no such model. Imported by the sources and by LoRA reading. Facts: the parameter names of `WanTransformer3DModel`,
of Wan2.2's `wan/modules/model.py` and `t5.py`, and of transformers' `UMT5EncoderModel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

BLOCK = {
    **{f"{old}.{x}": f"{new}.to_{x}" for old, new in (("self_attn", "attn1"), ("cross_attn", "attn2")) for x in "qkv"},
    **{f"{old}.o": f"{new}.to_out.0" for old, new in (("self_attn", "attn1"), ("cross_attn", "attn2"))},
    **{
        f"{old}.norm_{x}": f"{new}.norm_{x}"
        for old, new in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for x in "qk"
    },
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
"""Module (or bare parameter) inside one transformer block: original → diffusers."""

TOP = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}

UMT5_BLOCK = {
    **{f"attn.{x}": f"layer.0.SelfAttention.{x}" for x in "qkvo"},
    "norm1": "layer.0.layer_norm",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
}

UMT5_TOP = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}

_BLOCK_NAME = re.compile(r"blocks\.(\d+)\.(.+)")


def transformer_module(name: str) -> str | None:
    """diffusers' name of an original module or bare parameter (`blocks.3.ffn.0` → `blocks.3.ffn.net.0.proj`)."""
    match = _BLOCK_NAME.fullmatch(name)
    if match is None:
        return TOP.get(name)
    inner = BLOCK.get(match[2])
    return inner and f"blocks.{match[1]}.{inner}"


def original_module(name: str) -> str | None:
    """The inverse of `transformer_module`."""
    match = _BLOCK_NAME.fullmatch(name)
    if match is None:
        return _TOP_BACK.get(name)
    inner = _BLOCK_BACK.get(match[2])
    return inner and f"blocks.{match[1]}.{inner}"


def transformer_key(name: str) -> str | None:
    """diffusers' name of an original parameter (`head.head.bias` → `proj_out.bias`)."""
    return _parameter(name, transformer_module)


def umt5_key(name: str) -> str | None:
    """transformers' name of a parameter of the original text encoder (`blocks.0.attn.q.weight`)."""
    return _parameter(name, _umt5_module)


def vae_keys(names: Iterable[str]) -> dict[str, str]:
    """diffusers' `AutoencoderKLWan` name → original name, by diffusers' own converter (which moves values unseen)."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    return dict(convert_wan_vae_to_diffusers({name: name for name in names}))


def _parameter(name: str, module: Callable[[str], str | None]) -> str | None:
    stem, dot, kind = name.rpartition(".")
    if kind in ("weight", "bias") and dot:
        found = module(stem)
        return found and f"{found}.{kind}"
    return module(name)


def _umt5_module(name: str) -> str | None:
    match = _BLOCK_NAME.fullmatch(name)
    if match is None:
        return UMT5_TOP.get(name)
    inner = UMT5_BLOCK.get(match[2])
    return inner and f"encoder.block.{match[1]}.{inner}"


_BLOCK_BACK = {new: old for old, new in BLOCK.items()}
_TOP_BACK = {new: old for old, new in TOP.items()}
