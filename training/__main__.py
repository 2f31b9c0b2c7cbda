"""Train `mini` from nothing, or go on where training stopped: `python -m training [--work DIR] [--out DIR]`.

Order: VAE on pictures, text encoder, the VAE's decoder on clips, the experts, export, loss curves. Every part that is
saved is taken as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from training import curves, experts, lights, shifts, sizes, text, vae, wishes, wording
from training.export import Parts, write_checkpoint
from training.pictures import Pool, load_pool
from wan2_i2v.models.catalog import MINI
from wan2_i2v.models.components import TextEncoder
from wan2_i2v.stages.text import encode_prompt


class Reader:
    """Prompts → embeddings (1, 512, text_dim), each prompt encoded once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.known = encoder, dict[str, torch.Tensor]()

    def encode(self, prompt: str) -> torch.Tensor:
        if prompt not in self.known:
            self.known[prompt] = encode_prompt(self.encoder, prompt).clone()
        return self.known[prompt]


def start_of(coder: AutoencoderKLWan, reader: Reader, pool: Pool, work: Path) -> experts.Start:
    """The measured parts of the experts."""
    rng = np.random.default_rng(8)
    tokens = torch.cat([reader.encode(wording.random_request(rng)[0])[0] for _ in range(200)])
    saved = work / "maps.pt"
    maps = torch.load(saved, weights_only=True) if saved.exists() else shifts.fit(coder, pool)
    torch.save(maps, saved)
    return experts.Start(experts.grey_latent(coder), tokens[tokens.abs().sum(1) > 0], maps, experts.tints(coder))


def make_experts(coder: AutoencoderKLWan, reader: Reader, pool: Pool, work: Path) -> dict[experts.Expert, Any]:
    """Two experts that move the picture as the text says; the high-noise one begins the light that the other goes on with."""
    model, half = experts.new_expert(start_of(coder, reader, pool, work)), work / "moves-made.pt"
    grey_of = lambda height, width: experts.grey_latent(coder, height, width)  # noqa: E731
    wishes.read_wishes(model, reader.encode)
    knowledge = wishes.Knowledge(model, reader.encode, grey_of)
    if half.exists():
        model.load_state_dict(torch.load(half, weights_only=True))
    else:
        print("moves, tokens of error left", wishes.learn_moves(model, knowledge, work / "moves.jsonl"), flush=True)
        torch.save(model.state_dict(), half)
    made: dict[experts.Expert, Any] = {}
    for expert in ("high", "low"):
        taught = experts.for_levels_of(model, expert)
        log = work / f"lights-{expert}.jsonl"
        left = lights.learn(taught, coder, knowledge, log, finds=expert == "low")
        print(f"light of the {expert}-noise expert, share missed", left, flush=True)
        taught.to(torch.float16).to(torch.float32)
        told = sizes.fit(taught, knowledge.wishes, grey_of)
        print("row lengths, error of the logarithm before and after", told, flush=True)
        made[expert] = taught
    return made


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
    made = make_experts(coder, Reader(encoder), pool, work)
    decoder = vae.train_clips(coder, pool, work)
    write_checkpoint(arguments.out, Parts(encoder.tokenizer, encoder.model, decoder, made["high"], made["low"]))
    curves.draw(work, work / "curves.png")


if __name__ == "__main__":
    main()
