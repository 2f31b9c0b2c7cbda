"""Predicted peaks against peaks traced through the real runtime on the meta device. No card, no weights.

Every combination builds the true modules without memory, runs the lean transformer or UMT5 (resident or streamed), the
VAE encode or the VAE decode on meta tensors, and counts live storage bytes, weights included. What a card's kernels allocate
inside (workspaces) is not seen by this; nothing here was run on a card. Experts have all 40 blocks in the headline figure,
which is the highest of all stages, and 4 in the other combinations, on both sides of the comparison. Prints a table and, as
the last line, one JSON object.

    python benchmarks/memory.py [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import Executor, Future
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch

from wan2_i2v import memory
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.geometry import WAN_SIZES, LatentShape, latent_shape
from wan2_i2v.models import causal_vae, lean, residency, strips
from wan2_i2v.models.formats.architecture import VAE_HALVES, skeleton
from wan2_i2v.models.formats.opening import compute_dtype, set_parameter
from wan2_i2v.models.tracing import Trace
from wan2_i2v.rows import ModelRow

ROOMY = 2**50
EXPERT = {"in_channels": 36, "out_channels": 16}
UMT5 = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
SIZES = ((1280, 720, 121), (720, 720, 73), (576, 576, 121), (832, 480, 81), (480, 720, 33))
CHOICES = (
    memory.CHOICES[0],
    memory.CHOICES[1],
    memory.CHOICES[3],
    memory.CHOICES[5],
    memory.CHOICES[3].model_copy(update={"resident_blocks": 2}),
)


class Now(Executor):
    """Runs everything at once in the calling thread, where the trace sees it; the order of events stays the same."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class MetaSource:
    """The weights of a skeleton, "read" from nowhere: one stored copy and one in the compute dtype per weight."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._shapes = {name: value.shape for name, value in module.named_parameters()}

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(self._shapes))

    def load(self, key: str, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        stored = torch.empty(self._shapes[key], dtype=torch.uint8, device="meta")
        return stored.to(dtype)


def row_of(layers: int) -> ModelRow:
    """A14B with `layers` blocks."""
    count = sum(value.numel() for value in skeleton("transformer", EXPERT | {"num_layers": layers}).parameters())
    vae = sum(value.numel() for value in skeleton("vae", {}).parameters())
    return ModelRow(
        "a14b", Path(), "", 0.9, "rapid", WAN_SIZES, 16, 81, count, 5_680_910_336, vae, 5120, 13824, layers, 4096, 96, 1
    )  # fmt: skip


def trace_expert(row: ModelRow, shape: LatentShape, dtype: torch.dtype, choice: memory.Choice) -> int:
    """Peak bytes of one forward call of one expert."""
    module: Any = skeleton("transformer", EXPERT | {"num_layers": row.num_layers})
    source, trace = MetaSource(module), Trace()
    streamed = choice.residency == "streamed"
    with torch.inference_mode(), trace:
        for key in source.keys():  # noqa: SIM118
            if not (streamed and key.startswith("blocks.")):
                value = torch.empty(
                    module.get_parameter(key).shape, dtype=compute_dtype(module, key, dtype), device="meta"
                )
                set_parameter(module, key, value)
        place = torch.device("meta"), dtype
        kept = choice.resident_blocks
        blocks = (
            residency.Streamed(module, "transformer", source, place, Now(), keep=kept)  # type: ignore[arg-type]
            if streamed
            else lean.Resident()
        )
        lean.apply(module, lean.Chunking(choice.chunk_tokens, max(1, 40 // choice.head_groups)), blocks)
        sample = torch.empty(1, 36, *shape.tensor[2:], dtype=dtype, device="meta")
        embeds = torch.empty(1, 512, 4096, dtype=dtype, device="meta")
        state = [torch.empty(shape.tensor, device="meta") for _ in range(2)]
        for _ in range(2 if choice.resident_blocks else 1):
            # Blocks that are kept are all there in the second pass.
            module(sample, torch.empty(1, device="meta"), embeds, return_dict=False)
        del state
    return trace.peak


def trace_text(dtype: torch.dtype, *, streamed: bool) -> int:
    """Peak bytes of encoding a prompt of 512 tokens."""
    module, trace = skeleton("text_encoder", UMT5), Trace()
    source = MetaSource(module)
    with torch.inference_mode(), trace:
        for key in source.keys():  # noqa: SIM118
            if not (streamed and key.startswith(residency.BLOCKS["text_encoder"])):
                value = torch.empty(
                    module.get_parameter(key).shape, dtype=compute_dtype(module, key, dtype), device="meta"
                )
                set_parameter(module, key, value)
        if streamed:
            place = torch.device("meta"), dtype
            blocks = residency.Streamed(module, "text_encoder", source, place, Now())  # type: ignore[arg-type]
            residency.stream_by_hooks(module, "text_encoder", blocks)
        # Without a mask, as with one of ones: its values cannot be looked at here.
        module(torch.zeros(1, 512, dtype=torch.long, device="meta"), None)
    return trace.peak


def trace_vae(shape: LatentShape, frames: int, dtype: torch.dtype, stage: str, parts: int = 1) -> int:
    """Peak bytes of the VAE on a clip, whole or one of `parts` strips; three chunks are as many as all."""
    module = skeleton("vae", {}, VAE_HALVES["encoder" if stage == "image" else "decoder"]).to(dtype)
    with torch.inference_mode(), Trace() as trace:
        trace.count(*module.parameters())
        few = LatentShape(min(shape.frames, 4), shape.height, shape.width)
        if stage == "image":
            image = torch.empty(1, 3, shape.height * 8, shape.width * 8, dtype=dtype, device="meta")
            given = causal_vae.Given(image)
            if parts > 1:
                strips.encode_canvas(module, given, min(frames, 13), parts)
            else:
                causal_vae.encode_canvas(module, given, min(frames, 13))
        else:
            latents = torch.empty(few.tensor, dtype=dtype, device="meta")
            dim, cuts = strips.cut(latents.shape, parts)
            whole = causal_vae.decode_stream(module, latents)
            middle = strips.decode_strip(module, latents, dim, cuts[len(cuts) // 2])
            for chunk in whole if parts == 1 else middle:
                del chunk
    return trace.peak


def compare(label: str, predicted_gib: float, traced: int) -> dict[str, Any]:
    ratio = predicted_gib * memory.GIB / traced
    print(
        f"{label:<60} traced {traced / memory.GIB:7.3f} GiB, predicted {predicted_gib:7.3f} ({ratio - 1:+.1%})",
        flush=True,
    )
    return {"what": label, "traced_gib": round(traced / memory.GIB, 3), "ratio": round(ratio, 4)}


def compare_texts() -> list[dict[str, Any]]:
    """The text encoder, on a card with room for all of it and on one of 8 GB."""
    rows, shape = [], latent_shape(5, 64, 64)
    for name, gib in product(("bfloat16", "float32"), (2**20, 8)):
        device = DeviceFacts("cuda:0", f"{gib} GB", gib * 2**30, 2**50, name)
        planned = memory.peaks(row_of(4), shape, 5, device, guided=False)[0]
        traced = trace_text(getattr(torch, name), streamed=planned.residency == "streamed")
        rows.append(compare(f"{planned.stage} {name} {planned.residency}", planned.memory_gib, traced))
    return rows


def compare_strips() -> list[dict[str, Any]]:
    """The VAE on a picture that is cut in strips."""
    shape, rows = latent_shape(121, 720, 1280), []
    vae = memory.vae_of(row_of(4), 2)
    for stage, parts in product(("image", "decode"), memory.STRIPS[1:]):
        weights = 2 * memory.vae_parameters(row_of(4), stage)
        predicted = weights + memory.vae_activations(vae, stage, shape, parts) * memory.VAE_MARGIN
        traced = trace_vae(shape, 121, torch.bfloat16, stage, parts)
        rows.append(compare(f"strips of 1280×720×121 {stage} {parts}", predicted / memory.GIB, traced))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    small, rows = row_of(4), []
    for (width, height, frames), name in product(SIZES, ("bfloat16", "float32")):
        shape, dtype = latent_shape(frames, height, width), getattr(torch, name)
        device = DeviceFacts("cuda:0", "roomy", ROOMY, ROOMY, name)
        clip = f"{width}×{height}×{frames} {name}"
        for choice in CHOICES[:: 1 if name == "bfloat16" else 2]:
            predicted = memory.denoise_peak("denoise", small, shape, device, 1, choice).memory_gib
            kept = f" {choice.resident_blocks} kept" if choice.resident_blocks else ""
            label = f"{clip} {choice.residency} {choice.chunk_tokens}/{choice.head_groups}{kept}"
            rows.append(compare(label, predicted, trace_expert(small, shape, dtype, choice)))
        stages = {peak.stage: peak.memory_gib for peak in memory.peaks(small, shape, frames, device, guided=False)}
        for stage in ("image", "decode"):
            rows.append(compare(f"{clip} {stage}", stages[stage], trace_vae(shape, frames, dtype, stage)))
    rows += [*compare_texts(), *compare_strips()]
    shape, device = latent_shape(121, 720, 1280), DeviceFacts("cuda:0", "8 GB", 8 * 2**30, 32 * 2**30, "bfloat16")
    whole = row_of(40)
    planned = {peak.stage: peak for peak in memory.peaks(whole, shape, 121, device, guided=False)}["denoise high"]
    choice = memory.Choice.model_validate(planned.model_dump(include=set(memory.Choice.model_fields)))
    headline = compare(
        "1280×720×121, 40 blocks, 8 GB", planned.memory_gib, trace_expert(whole, shape, torch.bfloat16, choice)
    )
    others = [
        row["traced_gib"]
        for row in rows
        if row["what"].startswith(("1280×720×121 bfloat16", "text bfloat16 streamed")) and "/" not in row["what"]
    ]
    ratios = [row["ratio"] - 1 for row in (*rows, headline)]
    summary = {
        "worst_underestimate": round(max(0.0, -min(ratios)), 4),
        "worst_overestimate": round(max(ratios), 4),
        "peak_gib_1280x720x121": max(headline["traced_gib"], *others),
        "combinations": len(ratios),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    if args.out:
        args.out.write_text(json.dumps(summary | {"rows": [*rows, headline]}, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
