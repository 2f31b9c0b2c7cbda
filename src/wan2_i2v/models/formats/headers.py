"""What is in a weight file, from its header alone: path → `Header`. No torch, except for PyTorch's own `.pth` files.

Reads safetensors (one file, or a folder with or without an index), GGUF and zipped `.pth`. A file that is none of
these is recognised and named: a Git LFS pointer, a web page, a pickle under another name, a file cut short. Imported
by `identify` and by the sources; imports errors only.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wan2_i2v.errors import CheckpointError

Container = Literal["safetensors", "gguf", "torch"]

SAFETENSORS = (".safetensors", ".sft")

_SAMPLE = 2**16
_SAMPLES = 64


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor. `dtype` is safetensors' name (`F8_E4M3`) or GGML's (`Q4_K`); `shape` is the weight's own."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: Path


@dataclass(frozen=True)
class Header:
    """Names, dtypes and shapes of everything stored under `path`."""

    path: Path
    container: Container
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(sorted({info.file for info in self.tensors.values()}))

    @property
    def parameters(self) -> int:
        return sum(math.prod(info.shape) for info in self.tensors.values())


def read_header(path: Path) -> Header:
    """The header of a weight file or of a folder of safetensors shards.

    Raises CheckpointError when the path is missing, damaged or no weight file, saying what it is and what to do.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Give the path of a weight file or of a folder of shards.")
    container = _sniff(path)
    if container == "gguf":
        from wan2_i2v.models.formats.gguf_file import gguf_header

        return gguf_header(path)
    if container == "torch":
        from wan2_i2v.models.formats.files import torch_header

        return torch_header(path)
    tensors, metadata = _read_safetensors(path)
    return Header(path, "safetensors", tensors, metadata)


def fingerprint(header: Header) -> str:
    """A SHA-256 of content, not of names: sizes, and 64 samples of 64 KiB spread evenly over each file.

    Equal for copies under any name; two experts differ because their weights do.
    """
    digest = hashlib.sha256()
    for file in header.files:
        size = file.stat().st_size
        digest.update(struct.pack("<Q", size))
        with file.open("rb") as stream:
            for part in range(_SAMPLES):
                stream.seek(max(0, size - _SAMPLE) * part // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def _read_folder(folder: Path) -> Header:
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if indexes:
        names = {str(name) for name in _json(indexes[0])["weight_map"].values()}
        files = [folder / name for name in sorted(names)]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise CheckpointError(
            f"weights missing in {folder}: {', '.join(missing) or 'no .safetensors file'}. Restore the checkpoint."
        )
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        _sniff(file)
        found, _ = _read_safetensors(file)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise CheckpointError(
                f"{folder} holds {twice[0]} in {tensors[twice[0]].file.name} and in {file.name}. "
                "Leave one checkpoint in the folder."
            )
        tensors |= found
    return Header(folder, "safetensors", tensors)


def _sniff(path: Path) -> Container:
    """The container by the file's first bytes.

    Raises CheckpointError naming what the file is when it is no weight file.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(b"PK\x03\x04"):
        if path.suffix == ".safetensors":
            raise CheckpointError(
                f"{path} is a PyTorch pickle named .safetensors. Rename it to .pth, or get the .safetensors file."
            )
        return "torch"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        reason = "is empty. Download it again."
    elif head.startswith(b"version https://git-lfs"):
        reason = "is a Git LFS pointer, not the weights. Run `git lfs pull`, or download the file itself."
    elif text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        reason = "is a web page saved under a model's name (often a login or error page). Download the file itself."
    elif head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and b"c" in head:
        reason = "is a Python pickle, which is not loaded: it can run code. Get the .safetensors (or zipped .pth) file."
    elif text.startswith((b"{", b"[")):
        reason = "is a JSON text, not weights. Give the .safetensors file, or the folder that holds the index."
    elif path.suffix.lower() not in SAFETENSORS and head[8:9] != b"{":
        # Under its right name, a file that begins so is a damaged one.
        reason = "holds no weights. Give a .safetensors, .gguf or (zipped) .pth file."
    else:
        return "safetensors"
    raise CheckpointError(f"{path} {reason}")


def _read_safetensors(file: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if not 2 <= length <= 100 * 2**20:
            raise CheckpointError(f"{file} is no safetensors file: it has no header. Download it again.")
        raw = stream.read(length)
    if len(raw) < length:
        raise CheckpointError(f"{file} is cut short: {size:,} bytes end inside its header. Download it again.")
    try:
        entries: dict[str, Any] = json.loads(raw)
        metadata = dict(entries.pop("__metadata__", {}))
        tensors = {name: _info(entry, file) for name, entry in entries.items()}
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"{file} is damaged: its header is no list of tensors. Download it again.") from None
    if size != end:
        state = "cut short" if size < end else "damaged"
        raise CheckpointError(f"{file} is {state}: {size:,} bytes, its header says {end:,}. Download it again.")
    return tensors, metadata


def _info(entry: dict[str, Any], file: Path) -> TensorInfo:
    begin, end = entry["data_offsets"]
    return TensorInfo(entry["dtype"], tuple(entry["shape"]), end - begin, file)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}. Download it again.") from None
