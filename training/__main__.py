"""Train `mini` from nothing, or go on where training stopped: `python -m training [--work DIR] [--out DIR]`.

Order: VAE (pictures, then clips), text encoder, encoded clips, high expert, low expert (from the high one), export.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import architecture, experts, initial, text, vae
from training.export import Parts, write_checkpoint
from training.pictures import load_pool
from training.statistics import with_statistics
from wan2_i2v.models.catalog import MINI
from wan2_i2v.models.components import TextEncoder
from wan2_i2v.stages.text import encode_prompt

SHARDS = 120


class Reader:
    """Prompts of a batch → embeddings (batch, 512, text_dim), each prompt encoded once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.known = encoder, dict[str, torch.Tensor]()

    def __call__(self, samples: list[experts.Sample]) -> torch.Tensor:
        for sample in samples:
            if sample.prompt not in self.known:
                self.known[sample.prompt] = encode_prompt(self.encoder, sample.prompt).clone()
        return torch.cat([self.known[sample.prompt] for sample in samples])


def averaged_expert(work: Path, expert: experts.Expert) -> Any:
    """The trained expert's moving average, or its hand-made start when it has not been trained yet."""
    torch.manual_seed(3)
    model = WanTransformer3DModel(**architecture.EXPERT)
    levels = experts.recipe_sigmas(expert)
    initial.copy_first_frame(model, sum(levels) / len(levels))
    saved = work / f"expert-{expert}.pt"
    if saved.exists():
        model.load_state_dict(torch.load(saved, weights_only=True)["average"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="saves, caches and logs")
    parser.add_argument("--out", type=Path, default=MINI, help="where the checkpoint is written")
    parser.add_argument("--shards", type=int, default=SHARDS, help="how many groups of clips to encode")
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint from what is saved now")
    arguments = parser.parse_args()
    pool = load_pool(arguments.work / "pool.pkl")
    autoencoder = with_statistics(vae.train(arguments.work), pool)
    tokenizer, text_encoder = text.train(arguments.work)
    if not arguments.export_only:
        folder = arguments.work / "latents"
        experts.make_shards(autoencoder, pool, folder, arguments.shards)
        reader, shards = Reader(TextEncoder(tokenizer, text_encoder)), experts.load_shards(folder)
        experts.train_expert("high", shards, reader, arguments.work, None)
        experts.train_expert("low", shards, reader, arguments.work, None)
    high, low = averaged_expert(arguments.work, "high"), averaged_expert(arguments.work, "low")
    write_checkpoint(arguments.out, Parts(tokenizer, text_encoder, autoencoder, high, low))


if __name__ == "__main__":
    main()
