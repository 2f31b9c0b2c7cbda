"""The lean forward gives diffusers' own results: bit for bit in float32, whatever the chunks."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import AttentionBackendName

from wan2_i2v.errors import DeviceError
from wan2_i2v.models import attention, lean, nag
from wan2_i2v.models.attention import usable_backend
from wan2_i2v.plan import NagPlan


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=36,
        out_channels=16,
        text_dim=32,
        ffn_dim=96,
        num_layers=2,
    )
    for parameter in model.parameters():
        parameter.data.normal_(std=0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs():
    torch.manual_seed(1)
    return torch.randn(1, 36, 3, 8, 12), torch.tensor([875.0]), torch.randn(1, 512, 32)


def leaned(plain, **chunking):
    asked = {"tokens": 1024, "heads": 4} | chunking
    return lean.apply(copy.deepcopy(plain), lean.Chunking(**asked), lean.Resident())


@pytest.mark.parametrize("tokens", [7, 24, 72, 1000])
@pytest.mark.parametrize("heads", [1, 3, 4])
def test_equal_to_the_plain_forward(plain, inputs, tokens, heads):
    with torch.inference_mode():
        expected = plain(*inputs, return_dict=False)[0]
        found = leaned(plain, tokens=tokens, heads=heads)(*inputs, return_dict=False)[0]
    assert (found - expected).abs().max() <= 1e-5
    if tokens >= 72:
        assert torch.equal(found, expected)


def test_returns_a_model_output_like_the_plain_forward(plain, inputs):
    with torch.inference_mode():
        assert torch.equal(leaned(plain)(*inputs).sample, plain(*inputs).sample)


def test_bfloat16_with_float32_modules_as_loaded(plain, inputs, tmp_path):
    plain.save_pretrained(tmp_path)
    narrow = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    sample, timestep, embeds = inputs
    given = (sample.bfloat16(), timestep, embeds.bfloat16())
    with torch.inference_mode():
        expected = narrow(*given, return_dict=False)[0]
        found = leaned(narrow)(*given, return_dict=False)[0]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_text_keys_are_computed_once_per_prompt(plain, inputs):
    model = leaned(plain)
    calls: list[torch.Tensor] = []
    model.blocks[0].attn2.to_k.register_forward_hook(lambda *_: calls.append(inputs[2]))
    other = inputs[2] + 1
    with torch.inference_mode():
        for embeds in (inputs[2], other, inputs[2], other):
            expected = plain(inputs[0], inputs[1], embeds, return_dict=False)[0]
            assert torch.equal(model(inputs[0], inputs[1], embeds, return_dict=False)[0], expected)
    assert len(calls) == 2


def test_another_size_makes_another_rotary_table(plain, inputs):
    model, small = leaned(plain), inputs[0][:, :, :2]
    with torch.inference_mode():
        model(*inputs, return_dict=False)
        expected = plain(small, *inputs[1:], return_dict=False)[0]
        assert torch.equal(model(small, *inputs[1:], return_dict=False)[0], expected)


def test_nag_acts_in_the_lean_forward_as_in_the_plain_one(plain, inputs):
    model, whole, negative = leaned(plain, tokens=24), copy.deepcopy(plain), torch.randn(1, 512, 32)
    settings = NagPlan(scale=11, tau=2.5, alpha=0.25)
    with torch.inference_mode():
        without = model(*inputs, return_dict=False)[0]
        with nag.applied(whole, settings, negative), nag.applied(model, settings, negative):
            expected, found = whole(*inputs, return_dict=False)[0], model(*inputs, return_dict=False)[0]
        assert torch.equal(model(*inputs, return_dict=False)[0], without)
    assert (found - expected).abs().max() <= 1e-5
    assert (found - without).abs().max() > 1e-4


def test_a_kernel_that_is_not_here_is_an_error():
    assert usable_backend("sdpa").value == "native"
    with pytest.raises(DeviceError, match="attention sage cannot be used"):
        usable_backend("sage")


def test_the_chosen_kernel_is_the_one_that_computes(plain, inputs, monkeypatch):
    used = []
    original = attention.dispatch_attention_fn

    def watching(*args, backend=None, **kwargs):
        used.append(backend)
        return original(*args, backend=backend, **kwargs)

    monkeypatch.setattr(attention, "dispatch_attention_fn", watching)
    math = AttentionBackendName._NATIVE_MATH
    model = lean.apply(copy.deepcopy(plain), lean.Chunking(24, 4), lean.Resident(), lean.Kernels(math, lean.PLAIN))
    settings = NagPlan(scale=11, tau=2.5, alpha=0.25)
    with torch.inference_mode(), nag.applied(model, settings, torch.randn(1, 512, 32)):
        model(*inputs, return_dict=False)
    assert set(used) == {math}


@pytest.mark.heavy
def test_compiled_pieces_agree_and_are_compiled_once_for_all_blocks(plain, inputs):
    counters = torch._dynamo.utils.counters
    model = lean.apply(
        copy.deepcopy(plain),
        lean.Chunking(24, 4),
        lean.Resident(),
        lean.Kernels(usable_backend("sdpa"), lean.compiled_pieces()),
    )
    with torch.inference_mode():
        expected = plain(*inputs, return_dict=False)[0]
        found = model(*inputs, return_dict=False)[0]
        graphs = counters["stats"]["unique_graphs"]
        again = model(*inputs, return_dict=False)[0]
    assert (found - expected).abs().max() <= 1e-4
    assert torch.equal(found, again)
    assert graphs > 0
    assert counters["stats"]["unique_graphs"] == graphs, "a second pass compiles nothing"
    assert graphs <= 8, "blocks share their code"
