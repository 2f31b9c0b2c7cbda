"""Many clips whose experts are swapped: loads of each model and time, all clips together against one by one.

Makes a checkpoint with the package's own text encoder and VAE and two experts of random float16 weights, large beside what
they compute. Each side runs in a fresh process. "together" is one call of `generate_many` for all clips; "one by one" a call
per clip, which is what a pipeline does whose experts do not fit into memory together: it swaps them for every clip. Memory
itself is not limited here: our runtime never holds two models at once, on either side. Loads are counted where the runtime
puts weights into memory; all prompts differ. Prints one JSON object last; the ratio is together over one by one.

    python benchmarks/one_load.py [--clips 8] [--size 64] [--frames 5] [--layers 12] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

HEADS, HEAD_WIDTH, FFN = 8, 128, 4096
SIDES = ("together", "one by one")


def write_checkpoint(folder: Path, layers: int) -> None:
    """mini with other experts."""
    import torch
    from diffusers import WanTransformer3DModel

    from wan2_i2v.models.catalog import MINI

    shutil.copytree(MINI, folder, ignore=shutil.ignore_patterns("transformer*"))
    text = json.loads((MINI / "text_encoder" / "config.json").read_text())
    for seed, part in enumerate(("transformer", "transformer_2")):
        torch.manual_seed(seed)
        expert = WanTransformer3DModel(
            num_attention_heads=HEADS, attention_head_dim=HEAD_WIDTH, in_channels=36, out_channels=16,
            text_dim=text["d_model"], ffn_dim=FFN, num_layers=layers,
        )  # fmt: skip
        expert.half().save_pretrained(folder / part)


def count_loads() -> Counter[str]:
    """Counts from now on: whole components and those that come block by block."""
    from wan2_i2v.models import components

    loads: Counter[str] = Counter()

    def counted(original: Any) -> Any:
        def build(source: Any, component: Any, *rest: Any) -> Any:
            loads[" ".join([component.identity.path.name, *component.children])] += 1
            return original(source, component, *rest)

        return build

    for name in ("_resident", "_streamed"):
        setattr(components, name, counted(getattr(components, name)))
    return loads


def work(args: argparse.Namespace) -> None:
    """One side's clips; prints loads and seconds."""
    from wan2_i2v import GenerateRequest, acting, generate_many

    assert acting  # Imported before the clock starts: neither side's libraries are measured.
    picture, size = str(args.model.parent / "picture.png"), {"width": args.size, "height": args.size}
    # What the libraries take at their first use is neither side's.
    warm = GenerateRequest(image=picture, num_frames=args.frames, job_id="warm", device="cpu", **size)
    generate_many([warm])
    loads, begin, worked = count_loads(), time.perf_counter(), time.process_time()
    requests = [
        GenerateRequest(
            image=picture, prompt=f"The camera pans to the left, {seed}.", num_frames=args.frames, seed=seed, recipe="lightx2v", nag=False,
            model=str(args.model), output=f"{seed}.mp4", job_id=f"clip-{seed}", device="cpu",
            **size,
        )
        for seed in range(args.clips)
    ]  # fmt: skip
    together = args.worker == SIDES[0]
    for group in [requests] if together else [[request] for request in requests]:
        for record in generate_many(group):
            if record.status != "done" or record.recoveries:
                raise SystemExit(f"{record.job_id} failed or went on leaner: {record.error} {record.recoveries}")
    print(
        json.dumps({"seconds": time.perf_counter() - begin, "processor": time.process_time() - worked, "loads": loads})
    )


def measure(side: str, model: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own, which finds nothing kept by the other."""
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", side, "--model", str(model)]
        command += ["--clips", str(args.clips), "--size", str(args.size), "--frames", str(args.frames)]
        environment = os.environ | {"WAN2_I2V_CACHE": f"{folder}/cache", "WAN2_I2V_INSIGHTS": f"{folder}/insights.db"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{side}: {found['seconds']:.1f} s, loads {found['loads']}", flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    from PIL import Image

    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        Image.radial_gradient("L").convert("RGB").save(Path(folder) / "picture.png")
        model = Path(folder) / "model"
        write_checkpoint(model, args.layers)
        expert = sum(file.stat().st_size for file in (model / "transformer").glob("*.safetensors"))
        together, single = (measure(side, model, args) for side in SIDES)
    summary = {
        "loads_together": together["loads"],
        "loads_one_by_one": single["loads"],
        "time_ratio": round(together["seconds"] / single["seconds"], 3),
        "processor_ratio": round(together["processor"] / single["processor"], 3),
        "together_s": round(together["seconds"], 1),
        "one_by_one_s": round(single["seconds"], 1),
        "expert_mib_on_disk": round(expert / 2**20),
        "clips": args.clips,
        "size": args.size,
        "frames": args.frames,
        "load": load,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }
    if args.out:
        args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
