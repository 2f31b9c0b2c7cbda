"""Streamed blocks give the resident module's results and never hold more than two blocks."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from wan2_i2v.models import lean, residency
from wan2_i2v.models.formats import opening

CPU = torch.device("cpu")


def resident(path: Path, part, dtype):
    return opening.load(opening.open_component(path, part), CPU, dtype)


class Counting:
    """A source that knows which of the tensors it loaded are alive."""

    def __init__(self, source) -> None:
        self._source = source
        self.alive: weakref.WeakValueDictionary[str, torch.Tensor] = weakref.WeakValueDictionary()
        self.most = 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def load(self, key, device, dtype):
        tensor = self._source.load(key, device, dtype).clone()
        self.alive[key] = tensor
        blocks = {name.split(".")[1] for name in self.alive if name.startswith("blocks.")}
        self.most = max(self.most, len(blocks))
        return tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_transformer_equals_the_resident_one(checkpoint: Path, dtype):
    torch.manual_seed(0)
    given = torch.randn(1, 36, 2, 8, 8, dtype=dtype), torch.tensor([900.0]), torch.randn(1, 512, 32, dtype=dtype)
    chunking = lean.Chunking(16, 1)
    component = opening.open_component(checkpoint / "transformer", "transformer")
    module = residency.load_outside_blocks(component, CPU, dtype)
    assert all(parameter.is_meta for parameter in module.blocks.parameters())
    with (
        torch.inference_mode(),
        residency.Streamed(module, "transformer", component.source, (CPU, dtype)) as blocks,
    ):
        lean.apply(module, chunking, blocks)
        first, second = (module(*given, return_dict=False)[0] for _ in range(2))
        expected = lean.apply(resident(checkpoint / "transformer", "transformer", dtype), chunking, lean.Resident())(
            *given, return_dict=False
        )[0]
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert all(parameter.is_meta for parameter in module.blocks.parameters())


def test_never_more_than_two_blocks_are_held(checkpoint: Path):
    component = opening.open_component(checkpoint / "transformer", "transformer")
    module = residency.load_outside_blocks(component, CPU, torch.float32)
    counting = Counting(component.source)
    with residency.Streamed(module, "transformer", counting, (CPU, torch.float32)) as blocks:
        for index in (0, 1, 0, 1, 0):
            with blocks.ready(index):
                assert not module.blocks[index].ffn.net[2].weight.is_meta
    gc.collect()
    assert counting.most <= 2
    assert not [key for key in counting.alive if key.startswith("blocks.")]


def test_an_error_inside_a_block_frees_its_weights(checkpoint: Path):
    component = opening.open_component(checkpoint / "transformer", "transformer")
    module = residency.load_outside_blocks(component, CPU, torch.float32)
    with residency.Streamed(module, "transformer", component.source, (CPU, torch.float32)) as blocks:
        with pytest.raises(MemoryError), blocks.ready(0):
            raise MemoryError("injected")
        assert all(parameter.is_meta for parameter in module.blocks.parameters())
        with blocks.ready(0):
            assert not module.blocks[0].scale_shift_table.is_meta


def test_streamed_text_encoder_equals_the_resident_one(checkpoint: Path):
    tokens = torch.tensor([[5, 9, 30, 77, 1]])
    component = opening.open_component(checkpoint / "text_encoder", "text_encoder")
    module = residency.load_outside_blocks(component, CPU, torch.float32)
    with (
        torch.inference_mode(),
        residency.Streamed(module, "text_encoder", component.source, (CPU, torch.float32)) as blocks,
    ):
        residency.stream_by_hooks(module, "text_encoder", blocks)
        found = module(tokens, torch.ones_like(tokens)).last_hidden_state
        expected = resident(checkpoint / "text_encoder", "text_encoder", torch.float32)(
            tokens, torch.ones_like(tokens)
        ).last_hidden_state
    assert torch.equal(found, expected)
    assert all(parameter.is_meta for parameter in module.encoder.block.parameters())
