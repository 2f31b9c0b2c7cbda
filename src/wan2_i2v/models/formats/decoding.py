"""The arithmetic from stored bytes to floats: fp8 with scales, and GGML's block types. Imported by `packed` alone.

On a device, torch converts in slices, so that temporaries stay below about 256 MiB. On the CPU fp8 goes through a table
of all 256 values (two at a time for 16-bit results: torch's own conversion was measured 5 times slower), and GGML types
through the `gguf` package's NumPy routines (2 times faster there than diffusers' torch ports). Both ways give the same
bits: one rounding from float32 to the wanted dtype.
"""

from __future__ import annotations

from collections.abc import Iterable

import gguf
import numpy as np
import torch

_SLICE = 2**24
"""Weights converted at a time; GGML routines hold about 16 bytes per weight of temporaries."""


def fp8(data: torch.Tensor, scale: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """`data` (rows, columns…) in an fp8 dtype, times `scale`: none, one number, or one per row or block of a row."""
    if scale is None or scale.numel() == 1:
        return _table(data, scale, dtype) if data.device.type == "cpu" else _sliced(data, scale, dtype)
    blocks = scale.numel() // data.shape[0]
    rows = data.reshape(data.shape[0] * blocks, -1)
    return _sliced(rows, scale.reshape(-1, 1), dtype).reshape(data.shape)


def ggml(data: torch.Tensor, encoding: str, dtype: torch.dtype) -> torch.Tensor:
    """`data` (rows…, bytes of whole blocks) of a GGML type → weights (rows, columns)."""
    kind = gguf.GGMLQuantizationType[encoding]
    block_size, type_size = gguf.GGML_QUANT_SIZES[kind]
    rows = data.view(torch.uint8).reshape(-1, data.shape[-1])
    out = torch.empty((rows.shape[0], rows.shape[1] // type_size * block_size), dtype=dtype, device=rows.device)
    for part in _slices(*out.shape):
        if rows.device.type == "cpu":
            out[part] = torch.from_numpy(gguf.dequantize(rows[part].numpy(), kind))
        else:
            out[part] = ggml_blocks(rows[part].reshape(-1, type_size), kind).reshape(-1, out.shape[1])
    return out


def ggml_blocks(blocks: torch.Tensor, kind: gguf.GGMLQuantizationType) -> torch.Tensor:
    """`blocks` (n, bytes of a block) → float32 (n, weights of a block), in torch on any device."""
    from diffusers.quantizers.gguf.utils import dequantize_functions

    block_size, type_size = gguf.GGML_QUANT_SIZES[kind]
    floats: torch.Tensor = dequantize_functions[kind](blocks, block_size, type_size, torch.float32)
    return floats.reshape(-1, block_size)


def _table(data: torch.Tensor, scale: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    values = torch.arange(256, dtype=torch.uint8).view(data.dtype).to(torch.float32)
    table = (values if scale is None else values * scale.reshape(1).to(torch.float32)).to(dtype)
    codes = data.contiguous().view(torch.uint8).flatten()
    out = torch.empty(codes.shape, dtype=dtype)
    if dtype.itemsize == 2 and codes.numel() % 2 == 0 and codes.data_ptr() % 2 == 0:
        # Little-endian: of two neighbouring codes the first is the low byte, and its value the low half.
        halves = table.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
        pairs = (halves[np.newaxis, :] | halves[:, np.newaxis] << 16).reshape(-1)
        _look_up(pairs, codes.numpy().view(np.uint16), _bits(out, np.uint32))
    else:
        width = np.uint16 if dtype.itemsize == 2 else np.uint32
        _look_up(_bits(table, width), codes.numpy(), _bits(out, width))
    return out.reshape(data.shape)


def _look_up(values: np.ndarray, codes: np.ndarray, out: np.ndarray) -> None:
    """`out` = `values[codes]`, in slices: NumPy widens the codes it is given to eight bytes each."""
    for start in range(0, len(codes), _SLICE):
        part = slice(start, start + _SLICE)
        np.take(values, codes[part], out=out[part], mode="clip")


def _bits(tensor: torch.Tensor, width: type[np.unsignedinteger]) -> np.ndarray:
    return tensor.view(torch.uint8).numpy().view(width)


def _sliced(rows: torch.Tensor, scale: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    if scale is None:
        return rows.to(dtype)
    out = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    per_row = scale.numel() > 1
    for part in _slices(rows.shape[0], rows[0].numel()):
        factor = scale[part] if per_row else scale.reshape(())
        out[part] = rows[part].to(torch.float32) * factor.to(torch.float32)
    return out


def _slices(rows: int, width: int) -> Iterable[slice]:
    step = max(1, _SLICE // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))
