"""One weight in its stored form and the step from there to a compute dtype.

Comes in: stored tensors and the name of their encoding. Goes out: a float tensor of the weight's shape. A streaming
runtime moves a `Packed` to the device (fp8: 1 byte per weight, Q4_K: 0.56) and dequantises there. The arithmetic is in
`decoding`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from wan2_i2v.models.formats import decoding
from wan2_i2v.models.formats.encodings import FP8_TYPES, GGML_TYPES


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
        weight = decoding.ggml(packed.data, packed.encoding, dtype)
    elif packed.encoding in FP8_TYPES:
        weight = decoding.fp8(packed.data, packed.scale, dtype)
    elif packed.scale is not None:
        weight = (packed.data.to(torch.float32) * packed.scale.reshape(-1, *[1] * (packed.data.ndim - 1))).to(dtype)
    else:
        weight = packed.data.to(dtype)
    weight = weight.reshape(packed.shape)
    if not packed.deltas:
        return weight
    total = weight.to(torch.float32, copy=True)
    for delta, strength in packed.deltas:
        total.add_(delta.to(total), alpha=strength)
    return total.to(dtype)
