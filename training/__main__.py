"""Train `mini` from nothing, or go on where training stopped: `python -m training [--work DIR] [--out DIR]`.

Order: VAE on pictures, text encoder, the VAE's decoder on clips, encoded clips, the experts' fitted start, the last block of
each expert, export. Every part that is saved is taken as it is.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import experts, polish, shifts, text, vae, wishes, wording
from training.export import Parts, write_checkpoint
from training.pictures import Pool, load_pool
from wan2_i2v.models.catalog import MINI
from wan2_i2v.models.components import TextEncoder
from wan2_i2v.stages.text import encode_prompt

SHARDS = 25


class Reader:
    """Prompts → embeddings (batch, 512, text_dim), each prompt encoded once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.known = encoder, dict[str, torch.Tensor]()

    def encode(self, prompt: str) -> torch.Tensor:
        if prompt not in self.known:
            self.known[prompt] = encode_prompt(self.encoder, prompt).clone()
        return self.known[prompt]

    def __call__(self, samples: list[experts.Sample]) -> torch.Tensor:
        return torch.cat([self.encode(sample.prompt) for sample in samples])


def start_of(coder: AutoencoderKLWan, reader: Reader, pool: Pool) -> experts.Start:
    """The measured parts of the experts' start."""
    rng = np.random.default_rng(8)
    tokens = torch.cat([reader.encode(wording.random_request(rng)[0])[0] for _ in range(200)])
    words = tokens[tokens.abs().sum(1) > 0]
    return experts.Start(experts.grey_latent(coder), words, shifts.fit(coder, pool))


def fitted_expert(coder: AutoencoderKLWan, reader: Reader, pool: Pool) -> WanTransformer3DModel:
    """An expert that moves the picture as the text says, before any training on clips."""
    model = experts.new_expert(start_of(coder, reader, pool))
    wishes.read_wishes(model, reader.encode)
    wishes.learn_amounts(model, reader.encode, lambda height, width: experts.grey_latent(coder, height, width))
    return model


def trained_expert(
    expert: experts.Expert, start: WanTransformer3DModel, reader: Reader, work: Path
) -> WanTransformer3DModel:
    """`start` with its last block trained on the clips in `work`, or as it was saved there."""
    model, saved = copy.deepcopy(start), work / f"expert-{expert}.pt"
    if saved.exists():
        model.load_state_dict(torch.load(saved, weights_only=True))
        return model
    inputs, errors = polish.gather(model, expert, experts.load_shards(work / "latents"), reader)
    print(expert, "error left", polish.polish(model, inputs, errors), flush=True)
    torch.save(model.state_dict(), saved)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="saves, caches and logs")
    parser.add_argument("--out", type=Path, default=MINI, help="where the checkpoint is written")
    arguments = parser.parse_args()
    work: Path = arguments.work
    pool = load_pool(work / "pool.pkl")
    coder = vae.train_images(pool, work)
    coder.register_to_config(**vae.statistics(coder, pool))
    encoder = TextEncoder(*text.train(work))
    reader = Reader(encoder)
    experts.make_shards(coder, pool, work / "latents", SHARDS)
    start = fitted_expert(coder, reader, pool)
    high, low = (trained_expert(expert, start, reader, work) for expert in ("high", "low"))
    write_checkpoint(
        arguments.out, Parts(encoder.tokenizer, encoder.model, vae.train_clips(coder, pool, work), high, low)
    )


if __name__ == "__main__":
    main()
