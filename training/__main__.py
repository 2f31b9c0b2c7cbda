"""Train `mini` from nothing, or go on where training stopped: `python -m training [--work DIR] [--out DIR]`.

Order: VAE on pictures, text encoder, encoded clips, one expert for all noise levels, the high and the low expert from
it, the VAE's decoder on clips, export. `--export-only` writes the checkpoint from whatever is saved by then.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from training import experts, text, vae
from training.export import Parts, write_checkpoint
from training.pictures import load_pool
from wan2_i2v.models.catalog import MINI
from wan2_i2v.models.components import TextEncoder
from wan2_i2v.stages.text import encode_prompt

SHARDS = 25
Weights = dict[str, torch.Tensor]


class Reader:
    """Prompts of a batch → embeddings (batch, 512, text_dim), each prompt encoded once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.known = encoder, dict[str, torch.Tensor]()

    def __call__(self, samples: list[experts.Sample]) -> torch.Tensor:
        for sample in samples:
            if sample.prompt not in self.known:
                self.known[sample.prompt] = encode_prompt(self.encoder, sample.prompt).clone()
        return torch.cat([self.known[sample.prompt] for sample in samples])


def train_experts(coder: AutoencoderKLWan, shards: list[list[experts.Sample]], reader: Reader, work: Path) -> None:
    """All three stages, resumed where they stopped."""
    grey = experts.grey_latent(coder)
    shared = experts.train_expert(experts.Objective(experts.new_expert(grey), "single", shards, reader), work)
    high = experts.train_expert(experts.Objective(experts.new_expert(grey), "high", shards, reader), work, shared)
    before = experts.new_expert(grey).requires_grad_(False)
    before.load_state_dict(high)
    experts.train_expert(experts.Objective(experts.new_expert(grey), "low", shards, reader, before), work, shared)


def averaged(work: Path, *names: str) -> Weights:
    """The moving average of the first of `names` that has been saved."""
    for name in names:
        if (work / f"{name}.pt").exists():
            return dict(torch.load(work / f"{name}.pt", weights_only=True)["average"])
    raise SystemExit(f"{work} has none of {', '.join(names)} yet; train first")


def export(coder: AutoencoderKLWan, encoder: TextEncoder, work: Path, out: Path) -> None:
    """Write the checkpoint from the newest saves; an expert that is not trained yet is the shared one."""
    if (work / "vae-clips.pt").exists():
        coder.load_state_dict(averaged(work, "vae-clips"))
    grey = experts.grey_latent(coder)
    high, low = experts.new_expert(grey), experts.new_expert(grey)
    high.load_state_dict(averaged(work, "expert-high", "expert-single"))
    low.load_state_dict(averaged(work, "expert-low", "expert-single"))
    write_checkpoint(out, Parts(encoder.tokenizer, encoder.model, coder, high, low))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="saves, caches and logs")
    parser.add_argument("--out", type=Path, default=MINI, help="where the checkpoint is written")
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint from what is saved now")
    arguments = parser.parse_args()
    work: Path = arguments.work
    pool = load_pool(work / "pool.pkl")
    coder = vae.train_images(pool, work).requires_grad_(False)
    coder.register_to_config(**vae.statistics(coder, pool))
    encoder = TextEncoder(*text.train(work))
    if not arguments.export_only:
        folder = work / "latents"
        experts.make_shards(coder, pool, folder, SHARDS)
        train_experts(coder, experts.load_shards(folder), Reader(encoder), work)
        vae.train_clips(coder, pool, work)
    export(coder, encoder, work, arguments.out)


if __name__ == "__main__":
    main()
