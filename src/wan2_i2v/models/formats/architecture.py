"""Configuration of a component from its weights' shapes, and the strict check of its keys.

Comes in: parameter names and shapes under the module's own names. Goes out: constructor arguments for diffusers' and
transformers' classes, a module on the meta device, or one CheckpointError that lists everything that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

WAN_HEAD_DIM = 128
"""Every published Wan transformer (1.3B, 5B, 14B) has heads of 128."""

LISTED = 10


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `WanTransformer3DModel`; a missing key leaves the A14B value, for the check to report."""
    dim, in_channels, *patch = _shape(shapes, "patch_embedding.weight", (5120, 36, 1, 2, 2))
    out = _shape(shapes, "proj_out.weight", (16 * math.prod(patch), dim))[0]
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": dim // WAN_HEAD_DIM,
        "attention_head_dim": WAN_HEAD_DIM,
        "in_channels": in_channels,
        "out_channels": out // math.prod(patch),
        "text_dim": _shape(shapes, "condition_embedder.text_embedder.linear_1.weight", (dim, 4096))[1],
        "freq_dim": _shape(shapes, "condition_embedder.time_embedder.linear_1.weight", (dim, 256))[1],
        "ffn_dim": _shape(shapes, "blocks.0.ffn.net.0.proj.weight", (13824, dim))[0],
        "num_layers": layers(shapes, "blocks."),
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "image_dim": None,
        "added_kv_proj_dim": None,
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `AutoencoderKLWan`: the Wan 2.1 VAE with the base width and latent channels of these weights."""
    return {
        "base_dim": _shape(shapes, "encoder.conv_in.weight", (96,))[0],
        "z_dim": _shape(shapes, "post_quant_conv.weight", (16,))[0],
    }


def umt5_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `UMT5Config`; the width of one head is the query's width over the number of heads."""
    vocabulary, width = _shape(shapes, "shared.weight", (256384, 4096))
    first = "encoder.block.0.layer."
    buckets, heads = _shape(shapes, first + "0.SelfAttention.relative_attention_bias.weight", (32, 64))
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": _shape(shapes, first + "0.SelfAttention.q.weight", (width, width))[0] // heads,
        "d_ff": _shape(shapes, first + "1.DenseReluDense.wi_0.weight", (10240, width))[0],
        "num_layers": layers(shapes, "encoder.block."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": True,
    }


def layers(names: Iterable[str], prefix: str) -> int:
    """How many numbered blocks follow `prefix`: the highest number plus one, so that a gap shows as missing keys."""
    numbers = (name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix))
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def skeleton(part: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """The component's module on the meta device: names and shapes, no memory. `part` as in a diffusers folder."""
    with torch.device("meta"):
        module = _construct(part, config)
    assert isinstance(module, torch.nn.Module)
    return module.eval().requires_grad_(False)


def _construct(part: str, config: Mapping[str, Any]) -> Any:
    if part == "text_encoder":
        from transformers import UMT5Config, UMT5EncoderModel

        return UMT5EncoderModel(UMT5Config(**config))
    if part == "vae":
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

        return AutoencoderKLWan.from_config(dict(config))
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    return WanTransformer3DModel.from_config(dict(config))


def check(path: Path, part: str, found: Shapes, expected: Shapes) -> None:
    """Compare names and shapes with the architecture's.

    Raises CheckpointError listing missing, unexpected and misshaped keys, the first ten of each with their counts.
    """
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshaped = sorted(key for key in expected.keys() & found.keys() if found[key] != expected[key])
    sentences = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed("of another shape", [f"{key} is {found[key]}, not {expected[key]}" for key in misshaped]),
    ]
    if any(sentences):
        raise CheckpointError(
            f"{path} does not hold a whole {part}: {'; '.join(filter(None, sentences))}. "
            "It is damaged or of another model; run `wan2-i2v models verify`, or download it again."
        )


def _listed(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f", … and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return f"{len(items)} {what} ({', '.join(items[:LISTED])}{more})"


def _shape(shapes: Shapes, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = shapes.get(key, default)
    return found if len(found) >= len(default) else default
