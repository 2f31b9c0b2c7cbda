"""Trained parts → a checkpoint in the layout of Wan2.2-I2V-A14B-Diffusers, float16 safetensors.

`write_checkpoint` also takes untrained parts, so that `training/seed_checkpoint.py` makes the same layout from a seed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from training import architecture


@dataclass(frozen=True)
class Parts:
    """The five learned components; `high` and `low` are the two experts."""

    tokenizer: PreTrainedTokenizerFast
    text_encoder: UMT5EncoderModel
    vae: AutoencoderKLWan
    high: WanTransformer3DModel
    low: WanTransformer3DModel


def write_checkpoint(out: Path, parts: Parts) -> None:
    """Write all parts below `out`, replacing what is there."""
    parts.tokenizer.save_pretrained(out / "tokenizer")
    modules = {
        "text_encoder": parts.text_encoder,
        "vae": parts.vae,
        "transformer": parts.high,
        "transformer_2": parts.low,
    }
    for name, module in modules.items():
        half(module).save_pretrained(out / name)
        _forget_paths(out / name / "config.json")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0, num_train_timesteps=1000
    ).save_pretrained(out / "scheduler")
    (out / "model_index.json").write_text(json.dumps(_index(), indent=2) + "\n")


def half(module: Any) -> Any:
    """The module with float16 weights."""
    return module.to(torch.float16)


def _forget_paths(config: Path) -> None:
    """Drop the folder that a module was loaded from, which its library writes into the configuration."""
    values = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
    config.write_text(json.dumps(values, indent=2) + "\n")


def _index() -> dict[str, Any]:
    return {
        "_class_name": "WanImageToVideoPipeline",
        "_diffusers_version": "0.39.0",
        "boundary_ratio": architecture.BOUNDARY_RATIO,
        "image_encoder": [None, None],
        "image_processor": [None, None],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
