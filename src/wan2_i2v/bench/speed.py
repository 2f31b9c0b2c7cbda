"""How fast an expert is when its blocks are held in different ways, and attention with each kernel that is here.

Comes in: a checkpoint's row, a latent shape, a device. Goes out: rows; times are medians after one pass to warm up.
Imported by `bench.suite`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

from wan2_i2v import acceleration
from wan2_i2v.acceleration import Attention
from wan2_i2v.bench.report import Row, Value
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DeviceError, InvalidRequest, is_out_of_memory
from wan2_i2v.geometry import LatentShape
from wan2_i2v.memory import Residency, heads_of
from wan2_i2v.models import components, freeing
from wan2_i2v.models.attention import usable_backend
from wan2_i2v.rows import ModelRow
from wan2_i2v.schedule import Expert
from wan2_i2v.stages import recovery

PASSES = 3
KERNELS: tuple[Attention, ...] = ("sdpa", "sage", "flash")


def residencies(row: ModelRow, shape: LatentShape, device: DeviceFacts) -> Iterator[Row]:
    """The first expert's pass: resident, half of the blocks streamed, all of them; and whether results are equal."""
    ways: tuple[tuple[str, Residency, int], ...] = (
        ("resident", "resident", 0),
        (f"{row.num_layers // 2} of {row.num_layers} blocks kept", "streamed", row.num_layers // 2),
        ("streamed", "streamed", 0),
    )
    first: tuple[float, torch.Tensor] | None = None
    for label, residency, kept in ways:
        try:
            seconds, output = _pass(row, shape, device, residency, kept)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            recovery.reason(error)
            yield Row(what=label, values={"found": "memory ran out"})
            freeing.free()
            continue
        first = first or (seconds, output)
        values: dict[str, Value] = {"seconds": seconds, "times the first": seconds / first[0]}
        yield Row(what=label, values={**values, "same bits": torch.equal(output, first[1])})


def _pass(
    row: ModelRow, shape: LatentShape, device: DeviceFacts, residency: Residency, kept: int
) -> tuple[float, torch.Tensor]:
    """Seconds of a pass and its output, on the CPU."""
    assert row.files is not None
    source = components.Source(row.files, device.name, device.dtype, residency=residency, resident_blocks=kept)
    expert: Expert = "single" if row.boundary_ratio is None else "high"
    generator = torch.Generator().manual_seed(0)
    with components.transformer(source, expert) as model, torch.inference_mode():
        sample = torch.randn(1, 36, *shape.tensor[2:], generator=generator).to(model.device, model.dtype)
        embeds = torch.randn(1, 512, row.text_dim, generator=generator).to(model.device, model.dtype)
        timestep = torch.tensor([900.0], device=model.device)
        return timed(lambda: model(sample, timestep, embeds, return_dict=False)[0], device.name)


def kernels(row: ModelRow, shape: LatentShape, device: DeviceFacts) -> Iterator[Row]:
    """Self-attention of one block with each kernel; those that are not here say why."""
    heads = heads_of(row)
    generator, width = torch.Generator().manual_seed(0), row.dim // heads
    query, key, value = (
        torch.randn(1, shape.tokens, heads, width, generator=generator).to(device.name, getattr(torch, device.dtype))
        for _ in range(3)
    )
    exact: torch.Tensor | None = None
    for name in KERNELS:
        try:
            backend = usable_backend(acceleration.attention(name, device))
        except (InvalidRequest, DeviceError) as error:
            yield Row(what=name, values={"found": f"not usable: {error}"})
            continue
        with torch.inference_mode():
            # Bound now: the closure is called before the loop goes on.
            seconds, output = timed(lambda used=backend: _attend(query, key, value, used), device.name)  # type: ignore[misc]
            if exact is None:
                exact = _attend(query.float(), key.float(), value.float(), usable_backend("sdpa")).cpu()
        apart = float((output.float() - exact).abs().max())
        yield Row(what=name, values={"seconds": seconds, "largest difference from float32": apart, "found": "works"})


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, backend: Any) -> torch.Tensor:
    return torch.as_tensor(dispatch_attention_fn(query, key, value, backend=backend))


def timed(call: Callable[[], torch.Tensor], device: str) -> tuple[float, torch.Tensor]:
    """Median seconds of `call`, the device's queue emptied each time, and its result on the CPU."""
    output, seconds = call(), []
    for _ in range(PASSES):
        _finish(device)
        begin = time.perf_counter()
        output = call()
        _finish(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), output.cpu()


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
