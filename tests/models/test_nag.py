"""NAG against its formula, and on a real transformer."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from plans import plan
from wan2_i2v.models import lean, nag
from wan2_i2v.plan import NagPlan
from wan2_i2v.stages.denoise import Conditioning, predictor

STRONG = NagPlan(scale=11.0, tau=2.5, alpha=0.25)


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=36,
        out_channels=16,
        text_dim=8,
        ffn_dim=32,
        num_layers=2,
    ).eval()


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(1)
    return Conditioning(torch.randn(1, 512, 8), torch.randn(1, 512, 8), torch.randn(1, 20, 2, 4, 4))


def velocity(transformer, given, settings, step):
    latents = torch.ones(1, 16, 2, 4, 4)
    with torch.inference_mode(), nag.applied(transformer, settings, given.negative_prompt_embeds) as switch:
        return predictor(transformer, given, switch)(latents, step)


def test_guide_extrapolates_caps_and_blends():
    positive, negative = torch.tensor([[[1.0, 2.0], [1.0, 2.0]]]), torch.tensor([[[0.9, 2.2], [5.0, -3.0]]])
    made = nag.guide(positive, negative, NagPlan(scale=3.0, tau=2.5, alpha=0.5))
    # First token: 3·(1, 2) − 2·(0.9, 2.2) = (1.2, 1.6), within the cap. Second: (−7, 12), norm 19, capped to 7.5.
    capped = torch.tensor([-7.0, 12.0]) * 7.5 / 19
    assert torch.allclose(made[0, 0], 0.5 * torch.tensor([1.2, 1.6]) + 0.5 * positive[0, 0])
    assert torch.allclose(made[0, 1], 0.5 * capped + 0.5 * positive[0, 1])


def test_a_negative_prompt_acts_without_cfg(transformer, given):
    step = plan().steps[0]
    plain, guided = velocity(transformer, given, None, step), velocity(transformer, given, STRONG, step)
    assert (plain - guided).abs().max() > 1e-3
    assert torch.isfinite(guided).all()


def test_alpha_0_is_the_plain_model(transformer, given):
    step = plan().steps[0]
    off = velocity(transformer, given, NagPlan(scale=11.0, tau=2.5, alpha=0.0), step)
    assert torch.allclose(off, velocity(transformer, given, None, step), atol=1e-6)


def test_the_prompt_as_its_own_negative_changes_nothing(transformer, given):
    step = plan().steps[0]
    same = Conditioning(given.prompt_embeds, given.prompt_embeds, given.latent_condition)
    assert torch.allclose(
        velocity(transformer, same, STRONG, step), velocity(transformer, given, None, step), atol=1e-5
    )


def test_steps_with_cfg_have_no_nag(transformer, given):
    step = plan(guidance_scale_high=3.0).steps[0]
    assert torch.equal(velocity(transformer, given, STRONG, step), velocity(transformer, given, None, step))


def test_processors_are_restored(transformer, given):
    with pytest.raises(ZeroDivisionError), nag.applied(transformer, STRONG, given.negative_prompt_embeds):
        assert all(isinstance(block.attn2.processor, nag.NagProcessor) for block in transformer.blocks)
        raise ZeroDivisionError
    assert all(type(block.attn2.processor) is WanAttnProcessor for block in transformer.blocks)


def test_the_lean_forward_gives_the_same_and_projects_each_text_once(transformer, given):
    step = plan().steps[0]
    expected = velocity(transformer, given, STRONG, step)
    lean_model = lean.apply(copy.deepcopy(transformer), lean.Chunking(3, 1), lean.Resident())
    calls = Counter[str]()
    lean_model.blocks[0].attn2.to_k.register_forward_hook(lambda *_: calls.update(["keys"]))
    assert torch.allclose(velocity(lean_model, given, STRONG, step), expected, atol=1e-5)
    assert calls["keys"] == 2
