"""Image to video file, this package against diffusers' own pipeline: same weights, picture, prompt, size and steps.

Each side runs in fresh processes, taking turns, and is timed as a whole process: imports, loading, generating, writing
the MP4; ours examines the finished video besides, theirs does not. Neither evaluates a negative prompt (CFG 1, no NAG).
"One clip" makes one video; "batch" makes `--clips` videos, both sides loading their weights once per process. Prints a table
and, as the last line of stdout, one JSON object; ratios are ours over theirs, medians over the rounds. `time` is wall time;
`processor` the seconds that both cores worked for the process, which other work on the machine disturbs less. `load` is how
many processes wanted the cores (`os.getloadavg`) at the beginning: above 1 wall times are those of a shared machine.

    python benchmarks/main_job.py [--rounds 3] [--clips 8] [--size 256] [--frames 72] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

PROMPT = "The camera pans slowly to the left over the scene."
STEPS = 4


def make_picture(path: Path, size: int) -> None:
    """A picture with edges and gradients, drawn from a formula."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:size, 0:size] / size
    rings = np.sin(40 * np.hypot(x - 0.4, y - 0.6)) > 0
    pixels = np.stack([x, y, np.where(rings, 0.8, 0.2)], axis=-1)
    Image.fromarray((pixels * 255).astype("uint8")).save(path)


def run_ours(picture: Path, out: Path, clips: int, size: int, frames: int) -> None:
    from wan2_i2v import GenerateRequest, generate_many

    requests = [
        GenerateRequest(
            image=str(picture),
            prompt=PROMPT,
            width=size,
            height=size,
            num_frames=frames,
            seed=seed,
            recipe="lightx2v",
            output=str(out / f"ours-{seed}.mp4"),
            job_id=f"bench-{seed}",
            device="cpu",
            nag=False,
        )
        for seed in range(clips)
    ]
    for record in generate_many(requests):
        if record.status != "done":
            raise SystemExit(f"our side failed: {record.error}")


def run_diffusers(picture: Path, out: Path, clips: int, size: int, frames: int) -> None:
    """The published way: load the pipeline, call it, write the frames; Euler on the same number of steps and shift."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline
    from PIL import Image

    from wan2_i2v.geometry import model_frames
    from wan2_i2v.media.formats import ClipFormat
    from wan2_i2v.media.writer import write_clip
    from wan2_i2v.models.catalog import find

    pipe = WanImageToVideoPipeline.from_pretrained(
        find("mini").path, torch_dtype=torch.float32, image_encoder=None, image_processor=None, local_files_only=True
    )
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipe.set_progress_bar_config(disable=True)
    for seed in range(clips):
        video = pipe(
            image=Image.open(picture),
            prompt=PROMPT,
            height=size,
            width=size,
            num_frames=model_frames(frames),
            num_inference_steps=STEPS,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).frames[0]
        pixels = ((frame * 255).round().astype("uint8") for frame in video[:frames])
        write_clip(out / f"theirs-{seed}.mp4", pixels, ClipFormat("mp4", size, size, 24, 18))


def worker(args: argparse.Namespace) -> None:
    side = {"ours": run_ours, "theirs": run_diffusers}[args.worker]
    side(args.picture, args.folder, args.clips, args.size, args.frames)


def measure(side: str, clips: int, args: argparse.Namespace) -> dict[str, float]:
    """Wall and processor seconds and peak RSS of one fresh process of one side, which finds nothing kept by earlier ones."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        make_picture(picture, args.size)
        command = [sys.executable, __file__, "--worker", side, "--clips", str(clips), "--size", str(args.size)]
        command += ["--frames", str(args.frames), "--picture", str(picture), "--folder", folder]
        environment = os.environ | {"WAN2_I2V_CACHE": f"{folder}/cache", "WAN2_I2V_INSIGHTS": f"{folder}/insights.db"}
        before, begin = processor_seconds(), time.perf_counter()
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
            peak = peak_kib(process) / 1024
            seconds, worked = time.perf_counter() - begin, processor_seconds() - before
            said.seek(0)
            if process.returncode != 0:
                raise SystemExit(f"{side} failed:\n{said.read()[-3000:]}")
        if len(list(Path(folder).glob("*.mp4"))) != clips:
            raise SystemExit(f"{side} wrote {len(list(Path(folder).glob('*.mp4')))} of {clips} videos")
        return {"seconds": seconds, "processor": worked, "peak_mib": peak}


def peak_kib(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process to end: its largest resident size.

    Looked at from outside, 100 times a second: our side resets Linux' own count to learn the peak of every stage.
    """
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
            most = max(most, int(found[1]) if found else 0)
        time.sleep(0.01)
    return most


def processor_seconds() -> float:
    """What all children that have ended took, in user and system mode."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def compare(clips: int, rounds: int, args: argparse.Namespace) -> dict[str, float]:
    """Medians of both sides and of the pairwise ratios."""
    pairs = [(measure("ours", clips, args), measure("theirs", clips, args)) for _ in range(rounds)]
    middle = statistics.median
    result = {
        "ours_s": middle(ours["seconds"] for ours, _ in pairs),
        "theirs_s": middle(theirs["seconds"] for _, theirs in pairs),
        "time_ratio": middle(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs),
        "ours_processor_s": middle(ours["processor"] for ours, _ in pairs),
        "theirs_processor_s": middle(theirs["processor"] for _, theirs in pairs),
        "processor_ratio": middle(ours["processor"] / theirs["processor"] for ours, theirs in pairs),
        "ours_mib": middle(ours["peak_mib"] for ours, _ in pairs),
        "theirs_mib": middle(theirs["peak_mib"] for _, theirs in pairs),
        "rss_ratio": middle(ours["peak_mib"] / theirs["peak_mib"] for ours, theirs in pairs),
    }
    print(
        f"{clips} clip(s): {result['ours_s']:.1f} s against {result['theirs_s']:.1f} s ({result['time_ratio']:.3f}), "
        f"processor {result['ours_processor_s']:.1f} s against {result['theirs_processor_s']:.1f} s "
        f"({result['processor_ratio']:.3f}), peak "
        f"{result['ours_mib']:.0f} MiB against {result['theirs_mib']:.0f} MiB ({result['rss_ratio']:.3f})",
        flush=True,
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--picture", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    load = round(os.getloadavg()[0], 1)
    one, batch = compare(1, args.rounds, args), compare(args.clips, max(1, args.rounds - 1), args)
    summary = {
        "one_clip_time_ratio": round(one["time_ratio"], 3),
        "batch8_time_ratio": round(batch["time_ratio"], 3),
        "one_clip_processor_ratio": round(one["processor_ratio"], 3),
        "batch8_processor_ratio": round(batch["processor_ratio"], 3),
        "peak_rss_ratio": round(max(one["rss_ratio"], batch["rss_ratio"]), 3),
        "size": args.size,
        "frames": args.frames,
        "clips": args.clips,
        "rounds": args.rounds,
        "load": load,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }
    line = json.dumps(summary)
    if args.out:
        args.out.write_text(json.dumps(summary | {"one": one, "batch": batch}, indent=2) + "\n")
    print(line)


if __name__ == "__main__":
    main()
