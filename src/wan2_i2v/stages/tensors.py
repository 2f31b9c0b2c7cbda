"""Tensors on disk: atomic safetensors files with small metadata. Imported by stages."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialized

from wan2_i2v.workspace import replacing


def save(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None, *, flush_name: bool = True
) -> None:
    """Write tensors of any device atomically; a reader sees the old file or the new one, never a part.

    `flush_name` as for `replacing`.
    """
    with replacing(path, flush_name=flush_name) as temporary:
        # Not save_file: it writes beside `temporary`, under a name that nobody would sweep after a kill.
        temporary.write_bytes(
            serialized({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)
        )


def load(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, on the CPU."""
    return dict(load_file(path))


def metadata(path: Path) -> dict[str, str]:
    """The string metadata of a file, empty when it has none; reads the header only."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
