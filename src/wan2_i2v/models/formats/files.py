"""Stored tensors of a file, memory-mapped and untouched: `open_reader(header)` → `Reader`.

Imported by the sources and by LoRA reading. Nothing is copied: a tensor is a view of the mapped file (private,
copy-on-write), so that reading a weight costs page cache, not memory of the process.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.gguf_file import GgufReader
from wan2_i2v.models.formats.headers import Header, TensorInfo

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""torch's dtype by safetensors' name."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Reader(Protocol):
    """Gives stored tensors by their stored names."""

    def read(self, name: str) -> torch.Tensor:
        """The tensor as stored: a view of the mapped file on the CPU."""
        ...

    def close(self) -> None:
        """Give the mappings up; tensors read so far keep theirs alive."""
        ...


def open_reader(header: Header) -> Reader:
    """The reader of the header's container."""
    if header.container == "gguf":
        return GgufReader(header)
    return SafetensorsReader(header) if header.container == "safetensors" else TorchReader(header)


class SafetensorsReader:
    """Tensors of one or several safetensors files; a shard is opened when first needed."""

    def __init__(self, header: Header) -> None:
        self._tensors = header.tensors
        self._open: dict[Path, Any] = {}

    def read(self, name: str) -> torch.Tensor:
        file = self._tensors[name].file
        if file not in self._open:
            self._open[file] = safe_open(str(file), framework="pt")
        tensor = self._open[file].get_tensor(name)
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def close(self) -> None:
        self._open.clear()


class TorchReader:
    """Tensors of a zipped `.pth` file, unpickled with `weights_only` so that no code of the file runs."""

    def __init__(self, header: Header) -> None:
        self._tensors = _load_pth(header.path, "cpu")

    def read(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def close(self) -> None:
        self._tensors = {}


def torch_header(path: Path) -> Header:
    """Names, dtypes and shapes of a `.pth` file; its tensors are made on the meta device, so nothing is read.

    Raises CheckpointError when it holds more than a plain dictionary of tensors.
    """
    tensors = _load_pth(path, "meta")
    return Header(
        path,
        "torch",
        {
            name: TensorInfo(NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), tensor.nbytes, path)
            for name, tensor in tensors.items()
        },
    )


def _load_pth(path: Path, device: str) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read as plain weights ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "It is cut short or holds code; download it again or get the .safetensors file."
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} holds more than tensors (a training state?). Get the file with weights only.")
    return loaded
