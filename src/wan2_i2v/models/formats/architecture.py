"""A component's module without weights: a configuration → a module on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

VAE_HALVES = {"encoder": ("encoder", "quant_conv"), "decoder": ("post_quant_conv", "decoder")}
"""Children of the VAE that each direction needs. No stage needs both."""


def skeleton(part: str, config: Mapping[str, Any], children: tuple[str, ...] = ()) -> torch.nn.Module:
    """The component's module on the meta device: names and shapes, no memory. `part` as in a diffusers folder.

    Where `children` are named, the module has no others.
    """
    with torch.device("meta"):
        module = _construct(part, config)
    assert isinstance(module, torch.nn.Module)
    for name in [name for name, _ in module.named_children() if children and name not in children]:
        delattr(module, name)
    return module.eval().requires_grad_(False)


def _construct(part: str, config: Mapping[str, Any]) -> Any:
    if part == "text_encoder":
        from transformers import UMT5Config, UMT5EncoderModel

        return UMT5EncoderModel(UMT5Config(**config))
    if part == "vae":
        from wan2_i2v.models.definitions import AutoencoderKLWan

        return AutoencoderKLWan.from_config(dict(config))
    from wan2_i2v.models.definitions import WanTransformer3DModel

    return WanTransformer3DModel.from_config(dict(config))
