"""Configuration of a component from its weights' shapes: constructor arguments of its class. No torch.

Comes in: shapes under the module's own names (a VAE's also under the original ones). Used by `identify` and `opening`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

WAN_HEAD_DIM = 128
"""Every published Wan transformer (1.3B, 5B, 14B) has heads of 128."""


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `WanTransformer3DModel`; a missing key leaves the A14B value, for the check to report."""
    dim, in_channels, *patch = _shape(shapes, "patch_embedding.weight", (5120, 36, 1, 2, 2))
    out = _shape(shapes, "proj_out.weight", (16 * math.prod(patch), dim))[0]
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": max(1, dim // WAN_HEAD_DIM),
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
        "base_dim": _shape(shapes, "encoder.conv_in.weight", _shape(shapes, "encoder.conv1.weight", (96,)))[0],
        "z_dim": _shape(shapes, "post_quant_conv.weight", _shape(shapes, "conv2.weight", (16,)))[0],
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


def _shape(shapes: Shapes, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = shapes.get(key, default)
    return found if len(found) >= len(default) else default


CONFIG: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "transformer": transformer_config,
    "vae": vae_config,
    "text_encoder": umt5_config,
}


def transformer_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters of an I2V A14B transformer of this configuration, as diffusers builds it."""
    dim, ffn, text = config["num_attention_heads"] * config["attention_head_dim"], config["ffn_dim"], config["text_dim"]
    patch = tuple(config["patch_size"])
    linear = {
        "condition_embedder.time_embedder.linear_1": (dim, config["freq_dim"]),
        "condition_embedder.time_embedder.linear_2": (dim, dim),
        "condition_embedder.time_proj": (6 * dim, dim),
        "condition_embedder.text_embedder.linear_1": (dim, text),
        "condition_embedder.text_embedder.linear_2": (dim, dim),
        "proj_out": (config["out_channels"] * math.prod(patch), dim),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (dim, config["in_channels"], *patch),
        "patch_embedding.bias": (dim,),
        "scale_shift_table": (1, 2, dim),
    }
    for index in range(config["num_layers"]):
        block = f"blocks.{index}"
        linear |= {f"{block}.ffn.net.0.proj": (ffn, dim), f"{block}.ffn.net.2": (dim, ffn)}
        shapes |= {f"{block}.scale_shift_table": (1, 6, dim)}
        shapes |= {f"{block}.norm2.weight": (dim,), f"{block}.norm2.bias": (dim,)}
        for attention in (f"{block}.attn1", f"{block}.attn2"):
            linear |= dict.fromkeys((f"{attention}.to_{end}" for end in ("q", "k", "v", "out.0")), (dim, dim))
            shapes |= {f"{attention}.norm_q.weight": (dim,), f"{attention}.norm_k.weight": (dim,)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
