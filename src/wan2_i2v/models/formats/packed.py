"""One weight in its stored form and the step from there to a compute dtype.

Comes in: stored tensors and the name of their encoding. Goes out: a float tensor of the weight's shape. A streaming
runtime moves a `Packed` to the device (fp8: 1 byte per weight, Q4_K: 0.56) and dequantises there; `dequantise` works
in slices of bounded size, so that its temporaries never cost more than about 256 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
FP8_TYPES = ("F8_E4M3", "F8_E5M2")
GGML_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
SUPPORTED = FLOAT_TYPES + FP8_TYPES + GGML_TYPES

_SLICE = 2**24
"""Weights dequantised at a time; GGML routines hold about 16 bytes per weight of temporaries."""


@dataclass(frozen=True)
class Packed:
    """A weight as stored. `data` has the weight's shape, or is (blocks…, bytes) uint8 for a GGML type.

    `scale` multiplies an fp8 weight: one number, one per row (rows, 1), or one per block of a row (rows, blocks, 1).
    `deltas` are float tensors of the weight's shape with their strengths, added after dequantising.
    """

    data: torch.Tensor
    encoding: str
    shape: tuple[int, ...]
    scale: torch.Tensor | None = None
    deltas: tuple[tuple[torch.Tensor, float], ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that moving this weight costs."""
        tensors = [self.data, *([] if self.scale is None else [self.scale]), *(delta for delta, _ in self.deltas)]
        return sum(tensor.nbytes for tensor in tensors)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Packed:
        """The same weight, still packed, on another device."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return replace(
            self,
            data=move(self.data),
            scale=None if self.scale is None else move(self.scale),
            deltas=tuple((move(delta), strength) for delta, strength in self.deltas),
        )


def dequantise(packed: Packed, dtype: torch.dtype) -> torch.Tensor:
    """The weight in `dtype`, on the device of its data, rounded once from float32.

    A float weight that needs no change comes back as the stored tensor itself (a view of the mapped file).
    """
    if packed.encoding in GGML_TYPES:
        weight = _ggml(packed, dtype)
    elif packed.scale is not None:
        weight = _scaled(packed.data, packed.scale, dtype)
    else:
        weight = packed.data.to(dtype)
    weight = weight.reshape(packed.shape)
    if not packed.deltas:
        return weight
    total = weight.to(torch.float32, copy=True)
    for delta, strength in packed.deltas:
        total.add_(delta.to(total), alpha=strength)
    return total.to(dtype)


def _scaled(data: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if scale.numel() == 1:
        rows, factor = data.reshape(-1, data.shape[-1]), scale.reshape(1, 1)
    else:
        blocks = scale.numel() // data.shape[0]
        rows, factor = data.reshape(data.shape[0] * blocks, -1), scale.reshape(-1, 1)
    out = torch.empty(rows.shape, dtype=dtype, device=data.device)
    for part in _slices(rows.shape[0], rows.shape[1]):
        out[part] = rows[part].to(torch.float32) * (factor if factor.numel() == 1 else factor[part]).to(torch.float32)
    return out


def _ggml(packed: Packed, dtype: torch.dtype) -> torch.Tensor:
    import gguf
    from diffusers.quantizers.gguf.utils import dequantize_functions

    kind = gguf.GGMLQuantizationType[packed.encoding]
    block_size, type_size = gguf.GGML_QUANT_SIZES[kind]
    blocks = packed.data.view(torch.uint8).reshape(-1, type_size)
    out = torch.empty((blocks.shape[0], block_size), dtype=dtype, device=blocks.device)
    for part in _slices(blocks.shape[0], block_size):
        out[part] = dequantize_functions[kind](blocks[part], block_size, type_size, torch.float32).reshape(
            -1, block_size
        )
    return out


def _slices(rows: int, width: int) -> Iterable[slice]:
    step = max(1, _SLICE // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))
