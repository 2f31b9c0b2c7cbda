"""From stored bytes to floats: the same values in slices, and temporaries that do not grow with the weight."""

from __future__ import annotations

import tracemalloc

import pytest
import torch

from wan2_i2v.models.formats import decoding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_fp8_weight_is_converted_in_slices(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_SLICE", 2**16)
    codes = torch.arange(2**20, dtype=torch.int32).to(torch.uint8).reshape(1024, 1024)
    stored, scale = (codes & 0b10111111).view(torch.float8_e4m3fn), torch.tensor(0.5)
    tracemalloc.start()
    found = decoding.fp8(stored, scale, dtype)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(found, (stored.to(torch.float32) * scale).to(dtype))
    # NumPy's widened codes of one slice, beside the table of pairs for 16-bit results; whole, they would take 8 MB.
    assert peak < 3e6
