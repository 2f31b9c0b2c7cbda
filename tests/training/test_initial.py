"""The constructed experts: heads look where they are told, and the picture moves by exactly as many tokens as asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import architecture, experts, heads, initial, wishes
from wan2_i2v.models.catalog import MINI

FRAMES, ROWS, COLUMNS = 4, 6, 7


def told_to_move(right: int, down: int) -> tuple[WanTransformer3DModel, torch.Tensor, torch.Tensor]:
    """An expert whose every token is told to come from so many tokens to the right and below, its grey latent, its tints."""
    torch.manual_seed(0)
    grey = torch.randn(16, 2 * ROWS, 2 * COLUMNS) * 0.001
    model = WanTransformer3DModel(**architecture.EXPERT).eval().requires_grad_(False)
    maps = torch.zeros(2, len(heads.OFFSETS), 64, 64)
    near = [number for number, offset in enumerate(heads.OFFSETS) if abs(offset) < 0.2]
    weight = sum(heads.bump(np.array([[-heads.OFFSETS[number]]]))[0, 0] for number in near)
    maps[:, near] = torch.eye(64) / weight
    tints = torch.linalg.qr(torch.randn(16, 3)).Q.T.contiguous()
    initial.construct(model, grey, torch.randn(50, architecture.TEXT_DIM), maps, tints)
    for channel, value in (
        (initial.MOVE, right), (initial.MOVE + 1, down),
        (initial.SIZES, math.log(COLUMNS / heads.SINK_SIZE)), (initial.SIZES + 1, math.log(ROWS / heads.SINK_SIZE)),
    ):  # fmt: skip
        model.blocks[1].ffn.net[2].bias[channel] = value
    return model, grey, tints


@pytest.mark.parametrize(("expert", "sigma"), [("high", 1.0), ("high", 0.92), ("low", 0.89), ("low", 0.6)])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (0, 2), (-1, 1)])
def test_the_picture_moves_by_what_tokens_are_told(expert, sigma, right, down):
    model, grey, _ = told_to_move(right, down)
    model = experts.for_levels_of(model, expert)
    image = grey[:, None].repeat(1, FRAMES, 1, 1)[None]
    image[:, :, 0] = torch.randn(1, 16, 2 * ROWS, 2 * COLUMNS)
    noisy = torch.randn_like(image)
    velocity = experts.predict(model, noisy, image, sigma, torch.zeros(1, 512, architecture.TEXT_DIM))
    made = (noisy - sigma * velocity)[0]
    assert (made[:, 0] - image[0, :, 0]).abs().max() < 0.1
    wanted = image[0, :, 0].roll((-2 * down, -2 * right), (1, 2))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    for frame in made.unbind(1)[1:]:
        assert (frame[inner] - wanted[inner]).square().mean() < 0.01 * wanted.square().mean()


def test_an_expert_means_nothing_at_the_other_ones_levels():
    model, grey, _ = told_to_move(0, 0)
    low = experts.for_levels_of(model, "low")
    image = grey[:, None].repeat(1, FRAMES, 1, 1)[None]
    noisy = torch.randn_like(image)
    still = {}
    for sigma in (0.6, 1.0):
        velocity = experts.predict(low, noisy, image, sigma, torch.zeros(1, 512, architecture.TEXT_DIM))
        still[sigma] = float((noisy - sigma * velocity - image).square().mean())
    assert still[1.0] > 10 * still[0.6]


@pytest.mark.parametrize("sigma", [0.3, 0.632, 0.8])
def test_the_low_noise_expert_finds_how_much_light_a_noisy_clip_has_more_than_the_picture(sigma):
    model, grey, tints = told_to_move(0, 0)
    low = experts.for_levels_of(model, "low")
    frames, light = 40, torch.tensor([1.5, -0.5, 0.25])
    picture = torch.randn(1, 16, 1, 2 * ROWS, 2 * COLUMNS)
    image = torch.cat([picture, grey[None, :, None].repeat(1, 1, frames - 1, 1, 1)], dim=2)
    clip = picture.repeat(1, 1, frames, 1, 1)
    clip[:, :, 1:] += (light @ tints)[None, :, None, None, None]
    noisy = (1 - sigma) * clip + sigma * torch.randn_like(clip)
    told = wishes.input_of(
        low.blocks[3], lambda: experts.predict(low, noisy, image, sigma, torch.zeros(1, 512, architecture.TEXT_DIM))
    )
    found = told[:, initial.FOUND : initial.FOUND + initial.COLOURS]
    assert float(found.std(0).max()) < 0.01
    noise = sigma / (1 - sigma) / (frames * 4 * ROWS * COLUMNS) ** 0.5 * torch.linalg.pinv(tints).norm(dim=0)
    assert torch.all((found.mean(0) - light).abs() < 4 * noise + 0.03)


def test_bumps_leave_nothing_between_tokens_to_the_nearest():
    weights = heads.bump(np.array([[-1.5, -0.5, 0.5, 1.5]]))
    assert weights.max() < 0.01
    assert heads.bump(np.array([[-1.0, 0.0, 1.0]]))[0, 1] > 0.45


def test_sigmas_of_the_recipes_go_to_their_experts():
    assert experts.recipe_sigmas("high") == [0.9375, *experts.recipe_sigmas("high")[1:]]
    assert all(sigma >= 0.9 for sigma in experts.recipe_sigmas("high"))
    assert all(sigma < 0.9 for sigma in experts.recipe_sigmas("low"))
    assert len(experts.recipe_sigmas("high")) + len(experts.recipe_sigmas("low")) == 7


@pytest.mark.parametrize("expert", ["transformer", "transformer_2"])
def test_what_the_norm_subtracts_stays_cancelled_in_float16(expert):
    """Of mini as it is shipped: rounded, the weights that cancel were off by up to 247 and let a token's mean through."""
    model = WanTransformer3DModel.from_pretrained(MINI / expert, torch_dtype=torch.float32).requires_grad_(False)
    for block in model.blocks:
        gains = 1 + block.scale_shift_table[0, 4]
        left = (block.ffn.net[0].proj.weight * gains).sum(1)
        assert float(left.abs().max()) < 0.2


def test_switching_off_keeps_the_sums_exact_and_far_below():
    torch.manual_seed(1)
    into, spread = torch.nn.Linear(256, 768).requires_grad_(False), 42.43
    into.weight.mul_(100)
    initial.switch_off_in_given(into, 10_000.0, spread)
    rounded = into.weight.half().float()
    assert torch.equal(rounded[:, initial.ZERO], into.weight[:, initial.ZERO])
    gains = torch.ones(256)
    gains[initial.MASKS] = gains[initial.ZERO] = initial.MASK_GAIN
    assert float((rounded * gains).sum(1).abs().max()) < 0.2
    # A mask of ones takes the amount away, less what cancels.
    off = rounded[:, initial.MASKS].sum(1) * initial.MASK_GAIN / spread
    assert torch.allclose(off, torch.tensor(-10_000.0), atol=100.0)
