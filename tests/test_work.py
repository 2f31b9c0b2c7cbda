"""FLOPs as counted by hand against those that torch counts while the real modules run (on the meta device)."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import plans
from wan2_i2v import work
from wan2_i2v.footprint import Vae
from wan2_i2v.geometry import LatentShape
from wan2_i2v.models.formats.architecture import skeleton

LATENT = LatentShape(3, 16, 24)


def counted(call) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def test_a_call_of_an_expert():
    shape = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 128, "ffn_dim": 512}
    model = plans.a14b(num_layers=1, dim=256, ffn_dim=512)
    expert = skeleton("transformer", {"in_channels": 36, "out_channels": 16} | shape)
    sample = torch.empty(1, 36, *LATENT.tensor[2:], device="meta")
    text = torch.empty(1, 512, 4096, device="meta")
    real = counted(lambda: expert(sample, torch.empty(1, device="meta"), text, return_dict=False))
    # The projected text with its keys and values is made once per text; what comes before and after the blocks is small.
    once = 2 * 512 * (4096 * 256 + 256**2) + 2 * 512 * 2 * 256**2
    ends = 2 * LATENT.tokens * 256 * (36 + 16) * 4
    assert work.forward(model, LATENT.tokens) == pytest.approx(real - once - ends, rel=0.02)


@pytest.mark.parametrize("what", ["decode", "encode"])
def test_the_vae(what):
    vae, latent = Vae(8, (1, 2, 4, 4), (False, True, True), 2, 1, 4), LatentShape(2, 8, 8)
    module = skeleton("vae", {"base_dim": 8})
    if what == "decode":
        given = torch.empty(latent.tensor, device="meta")
        real = counted(lambda: module.decode(given, return_dict=False))
    else:
        given = torch.empty(1, 3, 5, 64, 64, device="meta")
        real = counted(lambda: module.encode(given, return_dict=False))
    assert getattr(work, what)(vae, latent) == pytest.approx(real, rel=0.1)


def test_a_canvas_stops_costing_once_nothing_changes():
    vae = Vae(96, (1, 2, 4, 4), (False, True, True), 2, 1, 2)
    assert work.encode(vae, LatentShape(31, 8, 8)) == work.encode(vae, LatentShape(6, 8, 8))
    assert work.decode(vae, LatentShape(31, 8, 8)) > 4 * work.decode(vae, LatentShape(6, 8, 8))
