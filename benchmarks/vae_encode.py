"""VAE encode of a still canvas, this package against diffusers: same weights, same output.

The published Wan 2.1 VAE architecture (base_dim 96) with random weights. Both sides take turns on one thread and are
timed in processor seconds, which other work on the machine disturbs less than wall time; ratios are diffusers' over
ours, medians over the rounds. Prints a table and, as the last line of stdout, one JSON object.

    python benchmarks/vae_encode.py [--size 64] [--frames 81] [--rounds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.models import causal_vae


def theirs(vae: Any, image: torch.Tensor, frames: int) -> torch.Tensor:
    """diffusers' own way: the whole canvas in memory, every chunk computed."""
    grey = torch.zeros(*image.shape[:2], frames - 1, *image.shape[2:])
    return torch.as_tensor(vae.encode(torch.cat([image.unsqueeze(2), grey], dim=2)).latent_dist.mode())


def compare(vae: Any, image: torch.Tensor, frames: int) -> dict[str, float]:
    """Processor seconds of both sides and how far their results are apart."""
    begin = time.process_time()
    expected = theirs(vae, image, frames)
    middle = time.process_time()
    ours = causal_vae.encode_canvas(vae, causal_vae.Given(image), frames)
    end = time.process_time()
    row = {
        "theirs_s": middle - begin,
        "ours_s": end - middle,
        "speedup": (middle - begin) / (end - middle),
        "difference": float((ours - expected).abs().max()),
    }
    print(f"diffusers {row['theirs_s']:.2f} s, ours {row['ours_s']:.2f} s: {row['speedup']:.2f}×", flush=True)
    return row


@torch.inference_mode()
def main() -> None:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="pixels of each side, a multiple of 16")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = AutoencoderKLWan().eval()
    image = torch.rand(1, 3, args.size, args.size) * 2 - 1
    rows = [compare(vae, image, args.frames) for _ in range(args.rounds)]
    summary = {
        f"speedup_{args.frames}_frames": round(statistics.median(row["speedup"] for row in rows), 2),
        "max_abs_difference": max(row["difference"] for row in rows),
        "size": args.size,
        "rounds": args.rounds,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }
    if args.out:
        args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
