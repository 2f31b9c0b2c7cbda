"""What looking costs: verifying a 720p clip beside decoding it, and analyzing pictures.

The clip is decoded by the embedded model's VAE, which is far smaller than the real one, so that the share of the real one is
smaller; the same number of frames of a moving photo with a face is then verified from its file. Everything runs on one
thread and is timed in processor seconds, which other work on the machine disturbs less than wall time. Prints a table and, as
the last line of stdout, one JSON object.

    python benchmarks/eye_cost.py [--frames 17] [--out FILE] [--pictures FILE …]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import damage, photos

from wan2_i2v.eye.files import verify_file
from wan2_i2v.eye.picture import analyze
from wan2_i2v.media import writer
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.models import catalog, causal_vae

WIDTH, HEIGHT, FPS = 1280, 720, 16.0
LARGE = (4000, 3000)
"""A camera's picture."""


def timed(work: Callable[[], Any]) -> float:
    """Processor seconds of this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


@torch.inference_mode()
def decoding(frames: int) -> float:
    """Processor seconds of decoding `frames` (4n + 1) frames."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    files = catalog.find("mini").files
    assert files is not None
    vae = AutoencoderKLWan.from_pretrained(files.vae).eval()
    latents = torch.randn(1, 16, (frames - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8)
    return timed(lambda: sum(chunk.shape[2] for chunk in causal_vae.decode_stream(vae, latents)))


def verifying(folder: Path, name: str, photo: photos.Picture, frames: int) -> dict[str, Any]:
    """Processor seconds of verifying a clip of a photo in its file, against the photo."""
    clip = damage.good_clip(photo, "mixed", size=(WIDTH, HEIGHT), frames=frames)
    path, source = folder / f"{name}.mp4", folder / f"{name}.png"
    writer.write_clip(path, clip, ClipFormat("mp4", WIDTH, HEIGHT, FPS, 18))
    Image.fromarray(clip[0]).save(source)
    seen = verify_file(path, source)  # also loads the nets, which a process does once
    return {"clip": name, "faces": len(seen.faces), "verify_s": round(timed(lambda: verify_file(path, source)), 3)}


def analyzing(name: str, picture: Path | Image.Image) -> dict[str, Any]:
    size = Image.open(picture).size if isinstance(picture, Path) else picture.size
    return {"picture": name, "size": f"{size[0]}x{size[1]}", "seconds": round(timed(lambda: analyze(picture)), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--pictures", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    scenes = photos.scenes()
    with tempfile.TemporaryDirectory() as folder:
        # The astronaut's upper half is as wide as the clip and has her face in it.
        shown = {"astronaut": scenes["astronaut"][:288], "coffee": scenes["coffee"]}
        clips = [verifying(Path(folder), name, photo, options.frames) for name, photo in shown.items()]
    large = {f"{name}, enlarged": Image.fromarray(scenes[name]).resize(LARGE) for name in ("astronaut", "coffee")}
    given: dict[str, Any] = {path.name: path for path in options.pictures}
    pictures = [
        analyzing(name, picture)
        for name, picture in [*((n, Image.fromarray(s)) for n, s in scenes.items()), *large.items(), *given.items()]
    ]
    decode = decoding(options.frames)
    worst = max(clip["verify_s"] for clip in clips)
    for row in (*clips, *pictures):
        print(row)
    result = {
        "date": date.today().isoformat(),
        "clip": f"{WIDTH}x{HEIGHT}, {options.frames} frames",
        "decode_mini_vae_s": round(decode, 2),
        "verify": clips,
        "verify_share_of_decode": round(worst / decode, 4),
        "verify_ms_per_frame": round(1000 * worst / options.frames, 1),
        "analyze_longest_s": max(row["seconds"] for row in pictures),
        "analyze_median_s": statistics.median(row["seconds"] for row in pictures),
        "analyze": pictures,
        "seconds_are": "processor seconds on one thread",
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
