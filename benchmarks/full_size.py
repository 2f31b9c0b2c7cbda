"""A14B at its full size on a CPU: random weights in the true shapes, streamed through the project's own pipeline.

Writes to a scratch folder what a user of ComfyUI has on disk, with random values: both experts and umt5-xxl as
fp8_scaled, the VAE in float32 (36 GB; nothing is downloaded). Then makes a clip of 64×64×5 in four steps in a process that
plans for 8 GiB of RAM, and watches itself: `peak_private_gib` is the highest Anonymous and Swap of /proc/self/smaps_rollup,
which leave out pages of mapped files (they belong to the operating system; `peak_file_pages_gib` has those that were mapped
at once). `share_converting`: seconds in which weights were read and converted, in a thread of its own, over the seconds of
denoising; `share_waiting`: those of them in which computing stood still for weights. Prints one JSON object last.

    python benchmarks/full_size.py --scratch DIR [--tiny] [--keep] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

GIB = 2**30
RAM_GB = 8
POOL_BYTES = 2**26
SCALE = 0.02
Shape = tuple[int, ...]

WHOLE: dict[str, dict[str, Any]] = {
    "transformer": {"in_channels": 36, "out_channels": 16},
    "text_encoder": {
        "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
    "vae": {},
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "transformer": {
        "in_channels": 36, "out_channels": 16, "num_layers": 3, "num_attention_heads": 2, "ffn_dim": 512, "text_dim": 64,
    },
    "text_encoder": {
        "vocab_size": 4096, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    "vae": {"base_dim": 8},
}  # fmt: skip


# ---- the files


def shapes_of(part: str, config: Mapping[str, Any]) -> dict[str, Shape]:
    """Parameter names and shapes as the file has them: original Wan names for experts."""
    from wan2_i2v.models.formats.architecture import skeleton
    from wan2_i2v.models.formats.keys import original_module

    def stored(key: str) -> str:
        stem, _, kind = key.rpartition(".")
        found = original_module(stem)
        return f"{found}.{kind}" if found else str(original_module(key))

    named = {key: tuple(value.shape) for key, value in skeleton(part, config).named_parameters()}
    return {stored(key): shape for key, shape in named.items()} if part == "transformer" else named


def tensors_of(shapes: Mapping[str, Shape], *, fp8: bool) -> Iterator[tuple[str, str, Shape]]:
    """Name, encoding and shape of everything in the file: with `fp8` matrices are e4m3 with a scale beside them."""
    for name, shape in shapes.items():
        matrix = fp8 and len(shape) == 2 and name.endswith(".weight")
        yield name, "F8_E4M3" if matrix else "F32", shape
        if matrix:
            yield f"{name.removesuffix('.weight')}.scale_weight", "F32", ()
    if fp8:
        yield "scaled_fp8", "F8_E4M3", (2,)


def write(path: Path, shapes: Mapping[str, Shape], *, fp8: bool, seed: int) -> None:
    """A safetensors file of these tensors; random values repeat after 64 MiB, which no computation here notices."""
    header: dict[str, Any] = {}
    entries, end = list(tensors_of(shapes, fp8=fp8)), 0
    for name, dtype, shape in entries:
        size = int(np.prod(shape, dtype=np.int64)) * (1 if dtype == "F8_E4M3" else 4)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    # Without the exponent's highest bit no byte is NaN, and all values are below 2.
    bytes_pool = (random.integers(0, 256, POOL_BYTES, dtype=np.uint8) & 0b10111111).tobytes()
    floats_pool = (random.standard_normal(POOL_BYTES // 4, dtype=np.float32) * SCALE).tobytes()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name, dtype, _ in entries:
            begin, stop = header[name]["data_offsets"]
            if name.endswith(".scale_weight"):
                stream.write(struct.pack("<f", SCALE))
            elif name.endswith(("norm.weight", "gamma")) or (".norm" in name and name.endswith(".weight")):
                stream.write(np.ones((stop - begin) // 4, dtype=np.float32).tobytes())
            else:
                _repeat(stream, bytes_pool if dtype == "F8_E4M3" else floats_pool, stop - begin)
        stream.flush()
        # A user's files were written long ago: none of the run's time or memory is spent on writing them out.
        os.fsync(stream.fileno())


def _repeat(stream: Any, pool: bytes, size: int) -> None:
    while size > 0:
        size -= stream.write(pool[:size])


def write_model(folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """The four files, and a models.toml that names them."""
    from wan2_i2v.models.facts import MINI

    experts = shapes_of("transformer", configs["transformer"])
    files = {
        "high": ("high_noise_fp8_scaled.safetensors", experts, True),
        "low": ("low_noise_fp8_scaled.safetensors", experts, True),
        "text_encoder": ("umt5_fp8_scaled.safetensors", shapes_of("text_encoder", configs["text_encoder"]), True),
        "vae": ("vae.safetensors", shapes_of("vae", configs["vae"]), False),
    }
    lines = ["[models.random]", 'recipe = "lightx2v"', "boundary = 0.9", f'tokenizer = "{MINI / "tokenizer"}"']
    for seed, (role, (name, shapes, fp8)) in enumerate(files.items()):
        if not (folder / name).exists():
            write(folder / name, shapes, fp8=fp8, seed=seed)
            print(f"wrote {name}: {(folder / name).stat().st_size / 1e9:.1f} GB", flush=True)
        lines.append(f'{role} = "{folder / name}"')
    (folder / "models.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def room_needed(configs: Mapping[str, Mapping[str, Any]]) -> int:
    """Bytes on disk, a little generously."""
    count = {
        part: sum(int(np.prod(shape)) for shape in shapes_of(part, config).values()) for part, config in configs.items()
    }
    return int(1.02 * (2 * count["transformer"] + count["text_encoder"] + 4 * count["vae"])) + 2**26


# ---- the run


@dataclass
class Watch(threading.Thread):
    """Highest memory of this process, looked at ten times a second; `stage` names what goes on."""

    stage: str = "start"
    peaks: dict[str, int] = field(default_factory=dict)
    file_pages: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.look()

    def look(self) -> None:
        """One look. Where a stage ended during it (it takes a while with many pages mapped), it says nothing of either."""
        stage, sizes = self.stage, {}
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            sizes[name] = int(value) * 1024
        if stage != self.stage:
            return
        # Not Private_Dirty: a mapped page that the system has not yet written to its file counts there too.
        private = sizes["Anonymous:"] + sizes["Swap:"]
        self.peaks[stage] = max(self.peaks.get(stage, 0), private)
        self.file_pages = max(self.file_pages, sizes["Rss:"] - sizes["Anonymous:"])


@dataclass
class Clock:
    """Seconds spent inside functions that it was put around."""

    seconds: dict[str, float] = field(default_factory=dict)

    def around(self, owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

        setattr(owner, name, timed)


def run(folder: Path) -> dict[str, Any]:
    """Make the clip in this process; what was measured."""
    from PIL import Image

    from wan2_i2v import api
    from wan2_i2v.devices import Machine
    from wan2_i2v.events import Event, Started
    from wan2_i2v.models import residency
    from wan2_i2v.request import GenerateRequest

    picture = folder / "picture.png"
    Image.effect_noise((64, 64), 60).convert("RGB").save(picture)
    request = GenerateRequest(
        image=str(picture), model="random", width=64, height=64, num_frames=5, seed=1, device="cpu", overwrite=True,
        output=str(folder / "clip.mp4"), job_id=f"full-size-{os.getpid()}", prompt="a test",
    )  # fmt: skip
    (order,) = api.prepare([request], machine=Machine(ram_gb=RAM_GB))
    assert isinstance(order, api.Order), order
    watch, clock = Watch(), Clock()
    clock.around(residency.Mover, "fetch")
    clock.around(residency.Streamed, "_take")
    at_denoising: dict[str, float] = {}

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            print(f"{time.strftime('%H:%M:%S')} {event.stage}", flush=True)
            watch.stage = event.stage
            if event.stage == "denoise high":
                at_denoising.update(clock.seconds)

    watch.start()
    begin = time.perf_counter()
    (record,) = api.run([order], listen)
    wall = time.perf_counter() - begin
    watch.ended.set()
    if record.status != "done":
        raise SystemExit(f"the job failed: {record.error}")
    denoising = record.seconds["denoise high"] + record.seconds["denoise low"]
    spent = {name: clock.seconds[name] - at_denoising.get(name, 0.0) for name in clock.seconds}
    return {
        "peak_private_gib": round(max(watch.peaks.values()) / GIB, 3),
        "peak_private_gib_by_stage": {stage: round(size / GIB, 3) for stage, size in watch.peaks.items()},
        "predicted_gib_by_stage": {peak.stage: peak.memory_gib for peak in order.plan.peaks},
        "peak_file_pages_gib": round(watch.file_pages / GIB, 3),
        "residency": {peak.stage: peak.residency for peak in order.plan.peaks},
        "steps": len(order.plan.steps),
        "seconds_per_step": round(denoising / len(order.plan.steps), 2),
        "share_converting": round(spent.get("fetch", 0.0) / denoising, 3),
        "share_waiting": round(spent.get("_take", 0.0) / denoising, 3),
        "seconds": {stage: round(seconds, 2) for stage, seconds in record.seconds.items()},
        "wall_s": round(wall, 1),
        "dtype": order.plan.dtype,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the files; 36 GB, 30 MB with --tiny")
    parser.add_argument("--tiny", action="store_true", help="the same in small shapes, to test this script")
    parser.add_argument("--keep", action="store_true", help="leave the files for another run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder, configs = args.scratch.absolute(), TINY if args.tiny else WHOLE
    if args.run_only:
        print(json.dumps(run(folder)))
        return
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, room_needed(configs)
    there = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if free + there < needed:
        raise SystemExit(f"{folder} has {free / 1e9:.0f} GB free; {needed / 1e9:.0f} GB are needed.")
    try:
        write_model(folder, configs)
        summary = _run_apart(folder)
    finally:
        if not args.keep:
            for file in folder.glob("*.safetensors"):
                file.unlink()
    summary |= {"shapes": "tiny" if args.tiny else "A14B", "date": date.today().isoformat()}
    if args.out:
        args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


def _run_apart(folder: Path) -> dict[str, Any]:
    """`run` in a process of its own, which never held what was written."""
    places = {
        "WAN2_I2V_MODELS_FILE": str(folder / "models.toml"),
        "WAN2_I2V_OUTPUT": str(folder / "output"),
        "WAN2_I2V_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, __file__, "--scratch", str(folder), "--run-only"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | places) as child:
        assert child.stdout is not None
        last = ""
        for line in child.stdout:
            last = line
            print(line, end="", flush=True)
    if child.returncode != 0:
        raise SystemExit(f"the run failed with exit code {child.returncode}")
    return dict(json.loads(last))


if __name__ == "__main__":
    main()
