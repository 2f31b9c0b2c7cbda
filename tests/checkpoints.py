"""A complete Wan2.2-I2V checkpoint in diffusers layout, as small as it gets, with weights drawn from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

TEXT_DIM = 32


def write(folder: Path, *, boundary_ratio: float | None = 0.9, seed: int = 0) -> Path:
    """Write the checkpoint below `folder` and return it."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    text = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        feed_forward_proj="gated-gelu",
    )
    UMT5EncoderModel(text).save_pretrained(folder / "text_encoder")
    vae = AutoencoderKLWan(
        base_dim=16,
        dim_mult=[1, 1, 1],
        temperal_downsample=[True, True],
        num_res_blocks=1,
        patch_size=2,
        in_channels=12,
        out_channels=12,
    )
    vae.save_pretrained(folder / "vae")
    for part in ("transformer", "transformer_2") if boundary_ratio is not None else ("transformer",):
        expert = WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=36,
            out_channels=16,
            text_dim=TEXT_DIM,
            ffn_dim=64,
            num_layers=2,
        )
        expert.save_pretrained(folder / part)
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True).save_pretrained(
        folder / "scheduler"
    )
    index = {
        "_class_name": "WanImageToVideoPipeline",
        "_diffusers_version": "0.39.0",
        "boundary_ratio": boundary_ratio,
        "image_encoder": [None, None],
        "image_processor": [None, None],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"] if boundary_ratio is not None else [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token, so that any text encodes."""
    special = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = special | {letter: len(special) + i for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
