"""Models in their true shapes with drawn weights: what the real runtime holds, with no checkpoint and on any device.

Comes in: configurations of the two components, and how the expert is run. Goes out: one pass of the expert, of the VAE's
encoder or of its decoder, on a card, on the CPU, or on torch's meta device, where it is traced and computes nothing.
Imported by `bench.peaks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from wan2_i2v.geometry import VAE_SCALE_SPATIAL, LatentShape
from wan2_i2v.memory import Choice
from wan2_i2v.models import causal_vae, lean, residency
from wan2_i2v.models.formats.architecture import VAE_HALVES, skeleton
from wan2_i2v.models.formats.opening import compute_dtype, finish, set_parameter
from wan2_i2v.models.formats.packed import Packed, dequantise
from wan2_i2v.rows import ModelRow

A14B_EXPERT: Mapping[str, Any] = {"in_channels": 36, "out_channels": 16}
WAN_VAE: Mapping[str, Any] = {}
"""Differences from the libraries' defaults, which are the published shapes."""

STORED, STORED_NAME = torch.bfloat16, "BF16"
SPREAD = 0.02


@dataclass(frozen=True)
class Models:
    """Configurations of expert and VAE, and the row that the memory plan knows them by."""

    row: ModelRow
    expert: Mapping[str, Any]
    vae: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where and in what numbers a pass is computed."""

    device: torch.device
    dtype: torch.dtype


class DrawnSource:
    """A `WeightSource` whose weights are all views of one buffer of small random numbers in RAM, stored as bfloat16.

    On the meta device every weight is a tensor of its own, so that a trace counts it.
    """

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self._shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
        self._buffer: torch.Tensor | None = None
        if device.type != "meta":
            largest = max(value.numel() for value in module.parameters())
            self._buffer = (torch.randn(largest, generator=torch.Generator().manual_seed(0)) * SPREAD).to(STORED)

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(self._shapes))

    def shape(self, key: str) -> tuple[int, ...]:
        return self._shapes[key]

    def stored_dtype(self, key: str) -> str:
        return STORED_NAME

    def stored_bytes(self, key: str) -> int:
        return torch.Size(self._shapes[key]).numel() * STORED.itemsize

    def raw(self, key: str) -> Packed:
        shape = self._shapes[key]
        if self._buffer is None:
            return Packed(torch.empty(shape, dtype=STORED, device="meta"), STORED_NAME, shape)
        return Packed(self._buffer[: torch.Size(shape).numel()].view(shape), STORED_NAME, shape)

    def dequantise(self, packed: Packed, dtype: torch.dtype) -> torch.Tensor:
        return dequantise(packed, dtype)

    def load(self, key: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
        """The weight in memory of its own."""
        packed = self.raw(key)
        weight = dequantise(packed.to(device), dtype)
        return weight.clone() if weight.data_ptr() == packed.data.data_ptr() and not weight.is_meta else weight

    def close(self) -> None:
        self._buffer = None


class Now(Executor):
    """Runs everything at once in the calling thread, where a trace sees it; the order of events stays the same."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def built(models: Models, stage: str) -> torch.nn.Module:
    """The module of a stage without weights. To be built outside of a trace, which would count what a module on meta has."""
    if stage == "denoise":
        return skeleton("transformer", models.expert)
    return skeleton("vae", models.vae, VAE_HALVES["encoder" if stage == "image" else "decoder"])


@torch.inference_mode()
def pass_expert(module: Any, shape: LatentShape, place: Place, choice: Choice) -> None:
    """One step's forward pass; two where blocks stay, which are all there in the second."""
    source = DrawnSource(module, place.device)
    streamed = choice.residency == "streamed"
    _fill(module, source, place, leave_out="blocks." if streamed else "")
    heads = max(1, module.config.num_attention_heads // choice.head_groups)
    with ExitStack() as opened:
        blocks: lean.Blocks = lean.Resident()
        if streamed:
            traced = {"executor": Now()} if place.device.type == "meta" else {}
            stream = residency.Streamed(
                module, "transformer", source, (place.device, place.dtype), keep=choice.resident_blocks, **traced
            )
            blocks = opened.enter_context(stream)
        lean.apply(module, lean.Chunking(choice.chunk_tokens, heads), blocks)
        sample = torch.zeros(1, 36, *shape.tensor[2:], dtype=place.dtype, device=place.device)
        embeds = torch.zeros(1, 512, module.config.text_dim, dtype=place.dtype, device=place.device)
        state = [torch.zeros(shape.tensor, device=place.device) for _ in range(2)]
        for _ in range(2 if streamed and choice.resident_blocks else 1):
            module(sample, torch.zeros(1, device=place.device), embeds, return_dict=False)
        del state


@torch.inference_mode()
def pass_vae(module: torch.nn.Module, shape: LatentShape, place: Place, stage: str) -> None:
    """The VAE on a clip of `shape`: `stage` image encodes a still canvas, decode gives the frames, chunk by chunk."""
    _fill(module, DrawnSource(module, place.device), place)
    if stage == "image":
        size = (shape.height * VAE_SCALE_SPATIAL, shape.width * VAE_SCALE_SPATIAL)
        # Not mid-grey, which would be one still canvas with what follows and need less.
        image = torch.ones(1, 3, *size, dtype=place.dtype, device=place.device)
        causal_vae.encode_canvas(module, causal_vae.Given(image), 4 * shape.frames - 3)
        return
    for chunk in causal_vae.decode_stream(module, torch.zeros(shape.tensor, dtype=place.dtype, device=place.device)):
        del chunk


def _fill(module: torch.nn.Module, source: DrawnSource, place: Place, leave_out: str = "") -> None:
    """Weights for all parameters but those whose name begins with `leave_out`, when that is not empty."""
    names = source.keys()
    for key in names:
        if not (leave_out and key.startswith(leave_out)):
            set_parameter(module, key, source.load(key, place.device, compute_dtype(module, key, place.dtype)))
    finish(module, place.device)
