"""One set of tiny weights written in every format that the package reads; used by the format and identity tests."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

State = Mapping[str, torch.Tensor]

FP8_MAX = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def prefixed(weights: State, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in weights.items()}


def big(key: str, value: torch.Tensor) -> bool:
    """What converters quantise: matrices, not norms, biases, modulations or the patch convolution."""
    return value.ndim == 2 and key.endswith(".weight")


def fp8(
    weights: State, dtype: torch.dtype, *, rows: bool = False, names: tuple[str, str] = (".scale_weight", "")
) -> State:
    """ComfyUI's scaled form: w = data · scale, one scale per matrix or per row, its marker tensor included."""
    suffix, hint = names
    out: dict[str, torch.Tensor] = {}
    for key, value in weights.items():
        if not big(key, value):
            out[key] = value
            continue
        peak = value.abs().amax(dim=1, keepdim=True) if rows else value.abs().max()
        scale = (peak / FP8_MAX[dtype]).float().clamp(min=1e-12)
        out[key] = (value / scale).to(dtype)
        out[key.removesuffix(".weight") + suffix] = scale
        if hint:
            out[key.removesuffix(".weight") + hint] = torch.tensor(
                list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8
            )
    if not hint:
        out["scaled_fp8"] = torch.empty(2, dtype=dtype)
    return out


def save(path: Path, weights: State) -> Path:
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def save_gguf(path: Path, weights: Mapping[str, np.ndarray], kind: str, architecture: str = "wan") -> Path:
    """A file as ComfyUI-GGUF's converter writes it: matrices in `kind`, everything else in F32."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in weights.items():
        chosen = kind if value.ndim == 2 and key.endswith(".weight") else "F32"
        if chosen == "F16":
            writer.add_tensor(key, value.astype(np.float16))
            continue
        qtype = gguf.GGMLQuantizationType[chosen]
        writer.add_tensor(key, gguf.quantize(value, qtype), raw_dtype=qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def sparse(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16") -> Path:
    """A safetensors file of true sizes that takes no room: its header, then a hole."""
    header: dict[str, object] = {}
    end, width = 0, {"F16": 2, "BF16": 2, "F8_E4M3": 1, "F32": 4}[dtype]
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=np.int64)) * width
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)
    return path
