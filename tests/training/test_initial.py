"""The experts' start: a still video from the first forward pass on."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import architecture, experts, initial


@pytest.mark.parametrize("sigma", [1.0, 0.9, 0.6])
def test_the_start_copies_the_first_frame(sigma):
    torch.manual_seed(0)
    grey = torch.randn(16, 16, 16) * 0.1
    model = WanTransformer3DModel(**architecture.EXPERT).eval()
    initial.copy_first_frame(model, grey, torch.randn(50, architecture.TEXT_DIM), torch.randn(4, 64, 320) * 0.1)
    image = grey[:, :8, :8].unsqueeze(1).repeat(1, 4, 1, 1)[None]
    image[:, :, 0] = torch.randn(1, 16, 8, 8)
    still = image[:, :, :1].expand(-1, -1, 4, -1, -1)
    noisy = sigma * torch.randn_like(still) + (1 - sigma) * still
    with torch.no_grad():
        velocity = experts.predict(model, noisy, image, sigma, torch.zeros(1, 512, architecture.TEXT_DIM))
    error = (noisy - sigma * velocity - still).square().mean()
    assert error < 0.1 * still.square().mean()


def test_sigmas_of_the_recipes_go_to_their_experts():
    assert experts.recipe_sigmas("high") == [0.9375, *experts.recipe_sigmas("high")[1:]]
    assert all(sigma >= 0.9 for sigma in experts.recipe_sigmas("high"))
    assert all(sigma < 0.9 for sigma in experts.recipe_sigmas("low"))
    assert len(experts.recipe_sigmas("high")) + len(experts.recipe_sigmas("low")) == 7
