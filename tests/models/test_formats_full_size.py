"""The real shapes, from headers alone: what a 14B expert, UMT5-XXL and the VAE are taken for before a byte is read."""

from __future__ import annotations

from pathlib import Path

import format_files as files
import psutil
import pytest

from wan2_i2v.models.formats import architecture
from wan2_i2v.models.formats.keys import original_module
from wan2_i2v.models.formats.opening import open_component

A14B = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "image_dim": None,
    "added_kv_proj_dim": None,
}

UMT5_XXL = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": True,
}

WHOLE = {
    "transformer": (A14B, 14.29),
    "text_encoder": (UMT5_XXL, 5.68),
    "vae": ({"base_dim": 96, "z_dim": 16}, 0.127),
}


def _original(key: str) -> str:
    stem, _, kind = key.rpartition(".")
    found = original_module(stem)
    return f"{found}.{kind}" if found else str(original_module(key))


@pytest.mark.parametrize("part", WHOLE)
def test_true_shapes_give_the_published_configuration(part: str, tmp_path: Path) -> None:
    config, billions = WHOLE[part]
    shapes = {key: tuple(value.shape) for key, value in architecture.skeleton(part, config).named_parameters()}
    stored = {_original(key) if part == "transformer" else key: shape for key, shape in shapes.items()}
    path = files.sparse(tmp_path / "model.safetensors", stored, "F8_E4M3")
    before = psutil.Process().memory_info().rss
    component = open_component(path, part)
    grown = psutil.Process().memory_info().rss - before
    assert component.config == config
    assert component.identity.weights == {part: component.identity.parameters}
    assert component.identity.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert sum(component.source.stored_bytes(key) for key in shapes) == component.identity.nbytes
    assert grown < 200 * 2**20
