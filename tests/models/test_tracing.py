"""The tracer counts what is alive, and the footprint's account matches the runtime it stands for."""

from __future__ import annotations

import pytest
import torch

from wan2_i2v.footprint import Transformer, Vae
from wan2_i2v.geometry import latent_shape
from wan2_i2v.models import causal_vae, lean, strips
from wan2_i2v.models.formats.architecture import VAE_HALVES, skeleton
from wan2_i2v.models.tracing import Trace

EXPERT = {
    "num_attention_heads": 8, "attention_head_dim": 64, "in_channels": 36, "out_channels": 16,
    "text_dim": 64, "ffn_dim": 1024, "num_layers": 2,
}  # fmt: skip


def test_counts_what_is_alive_and_remembers_the_most():
    with Trace() as trace:
        first = torch.empty(1000, device="meta")
        second = first + 1
        view = second.view(10, 100)
        del first
        assert trace.live == 4000
        del second
        assert trace.live == 4000
        del view
    assert (trace.live, trace.peak) == (0, 8000)


def test_attention_holds_its_output_and_no_matrix_of_scores():
    query = torch.empty(1, 2, 5000, 64, device="meta")
    with Trace() as trace:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert trace.peak < 1.1 * query.nbytes


@pytest.mark.parametrize(
    ("config", "dimensions"),
    [
        ({}, ((1, 2, 4, 4), (False, True, True), 2, 1)),
        ({"base_dim": 32, "dim_mult": [1, 2, 3], "num_res_blocks": 1, "temperal_downsample": [True, True],
          "in_channels": 12, "out_channels": 12, "patch_size": 2}, ((1, 2, 3), (True, True), 1, 2)),
    ],
)  # fmt: skip
def test_the_plan_counts_the_weights_of_the_half_of_the_vae_that_encodes(config, dimensions):
    module = skeleton("vae", config, VAE_HALVES["encoder"])
    levels, temporal, blocks, patch = dimensions
    counted = Vae(config.get("base_dim", 96), levels, temporal, blocks, patch, 4).encoder_parameters
    assert counted == sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(("size", "frames"), [((256, 256), 73), ((320, 176), 33)])
@pytest.mark.parametrize(("tokens", "groups"), [(1024, 8), (256, 2)])
def test_predicted_activations_are_near_the_traced_ones(size, frames, tokens, groups):
    shape = latent_shape(frames, size[1], size[0])
    module = lean.apply(skeleton("transformer", EXPERT), lean.Chunking(tokens, 8 // groups), lean.Resident())
    with torch.inference_mode(), Trace() as trace:
        sample = torch.empty(1, 36, *shape.tensor[2:], device="meta")
        module(sample, torch.empty(1, device="meta"), torch.empty(1, 512, 64, device="meta"), return_dict=False)
    predicted = Transformer(512, 1024, 8, 2, 4, tokens, 8 // groups, 64, 1).peak(shape)
    assert 0.97 <= predicted / trace.peak <= 1.1


@pytest.mark.parametrize("patch", [None, 2])
def test_predicted_vae_peaks_are_near_the_traced_ones(patch):
    levels, temporal, blocks = ((1, 2, 2), (True, True), 1) if patch else ((1, 2, 4, 4), (False, True, True), 2)
    channels = 3 * (patch or 1) ** 2
    module = skeleton(
        "vae",
        {
            "base_dim": 32, "dim_mult": list(levels), "temperal_downsample": list(temporal), "num_res_blocks": blocks,
            "patch_size": patch, "in_channels": channels, "out_channels": channels,
        },
    )  # fmt: skip
    shape = latent_shape(13, 128, 192)
    vae = Vae(32, levels, temporal, blocks, patch or 1, 4)
    with torch.inference_mode(), Trace() as encoding:
        causal_vae.encode_canvas(module, causal_vae.Given(torch.empty(1, 3, 128, 192, device="meta")), 13)
    with torch.inference_mode(), Trace() as decoding:
        for _ in causal_vae.decode_stream(module, torch.empty(shape.tensor, device="meta")):
            pass
    with torch.inference_mode(), Trace() as strip:
        dim, parts = strips.cut(torch.Size(shape.tensor), 4)
        for _ in strips.decode_strip(module, torch.empty(shape.tensor, device="meta"), dim, parts[1]):
            pass
    assert 0.97 <= vae.decode_strips_peak(shape, 4) / strip.peak <= 1.1
    assert 0.97 <= vae.encode_peak(shape) / encoding.peak <= 1.1
    assert 0.97 <= vae.decode_peak(shape) / decoding.peak <= 1.1
