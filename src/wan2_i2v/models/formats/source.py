"""Weights of one component, read lazily under the module's own (diffusers or transformers) names.

`WeightSource` is what a runtime asks; `FileSource` answers it from any container. Which stored tensor is which weight
is settled beforehand, in `naming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import torch

from wan2_i2v.models.formats.encodings import PACKED_TYPES
from wan2_i2v.models.formats.files import open_reader
from wan2_i2v.models.formats.fitting import check_supported
from wan2_i2v.models.formats.headers import Header
from wan2_i2v.models.formats.naming import Entry
from wan2_i2v.models.formats.packed import Packed, dequantise


class WeightSource(Protocol):
    """Weights of one component by the module's parameter names."""

    def keys(self) -> tuple[str, ...]:
        """Every parameter name, sorted."""
        ...

    def shape(self, key: str) -> tuple[int, ...]: ...

    def stored_dtype(self, key: str) -> str:
        """`F32`, `BF16`, `F8_E4M3`, `Q4_K`, …"""
        ...

    def stored_bytes(self, key: str) -> int:
        """Bytes that the weight takes as stored, its scale included: what streaming it moves."""
        ...

    def raw(self, key: str) -> Packed:
        """The weight as stored: views of the mapped file, nothing copied."""
        ...

    def dequantise(self, packed: Packed, dtype: torch.dtype) -> torch.Tensor:
        """The float weight, on the device where `packed` is."""
        ...

    def load(self, key: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
        """`raw`, moved, dequantised, in memory aligned to 64 bytes."""
        ...

    def close(self) -> None: ...


class FileSource:
    """A `WeightSource` over one header; see `WeightSource` for the methods."""

    def __init__(self, header: Header, entries: Mapping[str, Entry]) -> None:
        self._header = header
        self._entries = dict(entries)
        self._reader = open_reader(header)
        check_supported(header, self._entries)

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(self._entries))

    def shape(self, key: str) -> tuple[int, ...]:
        return self._header.tensors[self._entries[key].stored].shape

    def stored_dtype(self, key: str) -> str:
        return self._header.tensors[self._entries[key].stored].dtype

    def stored_bytes(self, key: str) -> int:
        entry, tensors = self._entries[key], self._header.tensors
        return tensors[entry.stored].nbytes + (tensors[entry.scale].nbytes if entry.scale else 0)

    def raw(self, key: str) -> Packed:
        entry = self._entries[key]
        scale = self._reader.read(entry.scale) if entry.scale else None
        return Packed(self._reader.read(entry.stored), self.stored_dtype(key), self.shape(key), scale)

    def dequantise(self, packed: Packed, dtype: torch.dtype) -> torch.Tensor:
        return dequantise(packed, dtype)

    def load(self, key: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
        return aligned(dequantise(self.raw(key).to(device), dtype))

    def close(self) -> None:
        self._reader.close()


class HeldSource:
    """Another source whose packed weights are kept on a device as stored; floats are left to be read when needed."""

    def __init__(self, base: WeightSource, device: torch.device | str) -> None:
        self._base = base
        self.keys, self.shape, self.stored_dtype = base.keys, base.shape, base.stored_dtype
        self.stored_bytes, self.dequantise = base.stored_bytes, base.dequantise
        names = base.keys()
        self._held = {key: base.raw(key).to(device) for key in names if base.stored_dtype(key) in PACKED_TYPES}

    @property
    def nbytes(self) -> int:
        """What is kept."""
        return sum(packed.nbytes for packed in self._held.values())

    def raw(self, key: str) -> Packed:
        return self._held.get(key) or self._base.raw(key)

    def load(self, key: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
        return aligned(self.dequantise(self.raw(key).to(device), dtype))

    def close(self) -> None:
        self._held.clear()
        self._base.close()


class AdjustedSource:
    """Another source with float deltas (from LoRA files) added to some weights after dequantising."""

    def __init__(self, base: WeightSource, deltas: Mapping[str, tuple[tuple[torch.Tensor, float], ...]]) -> None:
        self._base, self._deltas = base, deltas
        self.keys, self.shape, self.stored_dtype = base.keys, base.shape, base.stored_dtype
        self.dequantise, self.close = base.dequantise, base.close

    def stored_bytes(self, key: str) -> int:
        return self._base.stored_bytes(key) + sum(delta.nbytes for delta, _ in self._deltas.get(key, ()))

    def raw(self, key: str) -> Packed:
        packed = self._base.raw(key)
        return replace(packed, deltas=packed.deltas + self._deltas.get(key, ()))

    def load(self, key: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
        return aligned(self.dequantise(self.raw(key).to(device), dtype))


def aligned(weight: torch.Tensor) -> torch.Tensor:
    """The same weight at an address that is a multiple of 64; a copy where the file's own address is not.

    CPU kernels round differently on unaligned operands: measured with GGUF (32-byte alignment) against safetensors,
    equal weights gave outputs that differ in the last bits.
    """
    return weight.clone() if weight.device.type == "cpu" and weight.data_ptr() % 64 else weight
