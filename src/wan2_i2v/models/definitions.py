"""diffusers' own classes and functions of Wan, without the other models that diffusers imports beside them.

Nothing is defined here. Imported by the modules of `models` that build, run or take apart Wan's transformer and VAE, so
that there is one place where those come from.
"""

# ruff: noqa: E402
from __future__ import annotations

from wan2_i2v.models.deferred import UNUSED, defer

defer(*UNUSED)

from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanAttentionBlock,
    WanResample,
    WanResidualBlock,
    patchify,
    unpatchify,
)
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, WanTransformer3DModel

__all__ = [
    "AutoencoderKLWan",
    "WanAttentionBlock",
    "WanAttnProcessor",
    "WanResample",
    "WanResidualBlock",
    "WanTransformer3DModel",
    "patchify",
    "unpatchify",
]
