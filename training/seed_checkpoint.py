"""A checkpoint of `mini`'s layout with weights drawn from a seed: `python -m training.seed_checkpoint OUT [--seed 0]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from training import architecture
from training.export import Parts, write_checkpoint
from training.text import make_tokenizer


def write(out: Path, seed: int) -> None:
    """Write random weights to `out`; the same seed gives the same files."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    parts = Parts(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **architecture.TEXT_ENCODER)),
        vae=AutoencoderKLWan(**architecture.VAE),
        high=WanTransformer3DModel(**architecture.EXPERT),
        low=WanTransformer3DModel(**architecture.EXPERT),
    )
    write_checkpoint(out, parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)
