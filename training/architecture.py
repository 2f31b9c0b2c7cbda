"""The shapes of `mini`: every component's configuration in one place. Imported by the other training modules.

The same classes and layout as Wan2.2 I2V A14B, smaller numbers. Channel counts are multiples of 16 (others are several
times slower on CPUs); the VAE works on 2×2 pixel patches and so skips full-resolution convolutions.
"""

from __future__ import annotations

from typing import Any

TEXT_DIM = 64
TEXT_TOKENS = 512
BOUNDARY_RATIO = 0.9

VAE: dict[str, Any] = {
    "base_dim": 32,
    "dim_mult": [1, 2, 3],
    "temperal_downsample": [True, True],
    "num_res_blocks": 1,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "z_dim": 16,
    "scale_factor_spatial": 8,
    "scale_factor_temporal": 4,
}

TEXT_ENCODER: dict[str, Any] = {
    "d_model": TEXT_DIM,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 3,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "eos_token_id": 1,
    "dropout_rate": 0.0,
    "tie_word_embeddings": False,
}

EXPERT: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 4,
    "attention_head_dim": 64,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": TEXT_DIM,
    "freq_dim": 256,
    "ffn_dim": 768,
    "num_layers": 7,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "image_dim": None,
}
