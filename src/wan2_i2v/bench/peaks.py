"""Predicted, traced and real peaks of memory, stage by stage.

Comes in: models, a latent shape, a device. Goes out: rows. On a card torch is held to 8, 12, 16 and 24 GB in turn, each
cap with its own memory plan; on a CPU the process's own memory is counted, which the allocator's habits blur by some
tens of MiB. Imported by `bench.suite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from wan2_i2v import memory
from wan2_i2v.bench import drawn
from wan2_i2v.bench.drawn import Models, Place
from wan2_i2v.bench.report import Row, Value
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DoesNotFit, is_out_of_memory
from wan2_i2v.geometry import LatentShape
from wan2_i2v.memory import GIB, Choice, StagePeak
from wan2_i2v.models import freeing
from wan2_i2v.models.tracing import Trace
from wan2_i2v.stages import measuring

CAPS_GB = (8, 12, 16, 24)

STAGES = ("image", "denoise", "decode")
"""The kinds of stages whose peak grows with the clip."""


def on_cpu(models: Models, shape: LatentShape, device: DeviceFacts) -> Iterator[Row]:
    """One row per stage, the expert both resident and streamed."""
    found = memory.peaks(models.row, shape, 4 * shape.frames - 3, device, guided=False)
    for peak in _heavy(found):
        ways = [peak]
        if peak.kind == "denoise":
            choice = _choice(peak).model_copy(update={"residency": "streamed", "resident_blocks": 0})
            ways.append(memory.denoise_peak(peak.stage, models.row, shape, device, 1, choice))
        for way in ways:
            yield _row(models, shape, way, device, "")


def under_caps(models: Models, shape: LatentShape, card: DeviceFacts) -> Iterator[Row]:
    """Rows for every cap below the card's own memory; the cap is taken away at the end, errors included."""
    total = torch.cuda.get_device_properties(card.name).total_memory
    try:
        for cap in CAPS_GB:
            if cap * GIB > total:
                continue
            # The plan leaves the driver's part of a card free; the cap counts torch's memory alone.
            torch.cuda.set_per_process_memory_fraction((cap * GIB - memory.CONTEXT_BYTES) / total, card.name)
            capped = replace(card, vram_bytes=cap * GIB)
            try:
                found = memory.peaks(models.row, shape, 4 * shape.frames - 3, capped, guided=False)
            except DoesNotFit as error:
                yield Row(what=f"{cap} GB", values={"found": f"refused: {error}"})
                continue
            for peak in _heavy(found):
                yield _row(models, shape, peak, capped, f"{cap} GB, ")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, card.name)


def _heavy(found: tuple[StagePeak, ...]) -> list[StagePeak]:
    """One stage of each kind: both experts are alike."""
    return [next(peak for peak in found if peak.kind == kind) for kind in STAGES]


def _choice(peak: StagePeak) -> Choice:
    return Choice.model_validate(peak.model_dump(include=set(Choice.model_fields)))


def _row(models: Models, shape: LatentShape, peak: StagePeak, device: DeviceFacts, label: str) -> Row:
    """Predicted, traced and real peak of one stage in one way; memory that runs out is a result too."""
    dtype: torch.dtype = getattr(torch, device.dtype)

    def run(module: torch.nn.Module, place: Place) -> None:
        if peak.kind == "denoise":
            drawn.pass_expert(module, shape, place, _choice(peak))
        else:
            drawn.pass_vae(module, shape, place, peak.stage)

    values: dict[str, Value] = {
        "predicted GiB": peak.weights_gib + peak.activations_gib,
        "traced GiB": _traced(partial(run, drawn.built(models, peak.kind), Place(torch.device("meta"), dtype))),
    }
    try:
        real = measured(
            partial(run, drawn.built(models, peak.kind), Place(torch.device(device.name), dtype)), device.name
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        values["found"] = "memory ran out"
    else:
        if real is not None:
            values["real GiB"] = real
        values["found"] = "fits"
    kept = f", {peak.resident_blocks} blocks kept" if peak.residency == "streamed" and peak.resident_blocks else ""
    return Row(what=f"{label}{peak.kind}, {peak.residency}{kept}", values=values)


def _traced(run: Callable[[], None]) -> float:
    with Trace() as trace:
        run()
    return trace.peak / GIB


def measured(run: Callable[[], None], device: str) -> float | None:
    """GiB that `run` held at its peak beyond what was held before; None where that cannot be counted."""
    freeing.free()
    measuring.restart(device)
    before = measuring.held_gib(device)
    run()
    peak = measuring.peak_gib(device)
    freeing.free()
    return None if peak is None or before is None else peak - before
