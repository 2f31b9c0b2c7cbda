"""GGUF files through the `gguf` package: header and memory-mapped tensors.

Comes in: a path. Goes out: a `Header` (no torch), or a `GgufReader` whose tensors share the mapped file's memory.
ComfyUI-GGUF (city96) keeps the original Wan names and, where a tensor's last side is no multiple of 256, stores it
flattened with its shape in the field `comfy.gguf.orig_shape.<name>`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.headers import Header, TensorInfo

if TYPE_CHECKING:
    import torch

_SHAPE_FIELD = "comfy.gguf.orig_shape."


def open_gguf(path: Path) -> Any:
    """The package's reader over a private (copy-on-write) mapping.

    Raises CheckpointError for a damaged file.
    """
    from gguf import GGUFReader

    try:
        # "c": the mapping is private and its arrays writable, as torch wants them; the file is never changed.
        return GGUFReader(path, mode="c")
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is a damaged or cut-short GGUF file ({type(error).__name__}: {error}). Download it again."
        ) from error


def gguf_header(path: Path) -> Header:
    """Names, GGML types and shapes; `metadata["architecture"]` is the file's `general.architecture`."""
    reader = open_gguf(path)
    shapes = _original_shapes(reader)
    tensors = {
        tensor.name: TensorInfo(
            tensor.tensor_type.name,
            shapes.get(tensor.name) or tuple(int(side) for side in reversed(tensor.shape)),
            int(tensor.n_bytes),
            path,
        )
        for tensor in reader.tensors
    }
    field = reader.get_field("general.architecture")
    return Header(path, "gguf", tensors, {"architecture": str(field.contents()) if field else ""})


class GgufReader:
    """Stored tensors of one GGUF file, mapped: typed for F32, F16 and BF16, bytes (rows, bytes of a row) else."""

    def __init__(self, header: Header) -> None:
        self._tensors = {tensor.name: tensor for tensor in open_gguf(header.path).tensors}

    def read(self, name: str) -> torch.Tensor:
        import torch

        tensor = self._tensors[name]
        data = torch.from_numpy(tensor.data)
        return data.view(torch.bfloat16) if tensor.tensor_type.name == "BF16" else data

    def close(self) -> None:
        self._tensors = {}


def _original_shapes(reader: Any) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix(_SHAPE_FIELD): tuple(int(side) for side in field.contents())
        for name, field in reader.fields.items()
        if name.startswith(_SHAPE_FIELD)
    }
