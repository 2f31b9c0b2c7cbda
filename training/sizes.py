"""How long a sink's row is, told exactly: the last layer that tells it is fitted anew once its weights are float16's.

A sink outweighs a picture's token by the number of tokens in its row, so an error of 0.05 in that number's logarithm makes
every frame after the first 5 % more or less contrasty. Wishes are mixed, because the row's length does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import heads, initial, wishes

RIDGE, MIXED, SEED = 1e-5, 0.3, 100
LARGEST = 6000
"""Latent places of the shapes that are taken twice; of larger ones, once is enough."""
Shape = tuple[int, int, int]


@torch.no_grad()
def fit(
    model: WanTransformer3DModel, said: dict[str, torch.Tensor], grey_of: Callable[[int, int], torch.Tensor]
) -> tuple[float, float]:
    """Least squares over the second block's hidden units; returns the root mean square error before and after.

    `model` has weights that float16 holds. `said`: per motion, what block 0 reads from wordings, (wordings, motions).
    """
    twice = [shape for shape in wishes.SHAPES if shape[0] * shape[1] * shape[2] < LARGEST]
    seeds = list(enumerate([*wishes.SHAPES, *twice], start=SEED))
    seen = [_hidden(model, shape, list(said.values()), grey_of, seed) for seed, shape in seeds]
    hidden = torch.cat([torch.cat([units, torch.ones(len(units), 1)], dim=1) for units in seen]).double()
    wanted = torch.cat([_told(shape).expand(len(units), 2) for (_, shape), units in zip(seeds, seen, strict=True)])
    layer, told = model.blocks[1].ffn.net[2], slice(initial.SIZES, initial.SIZES + 2)
    now = torch.cat([layer.weight[told], layer.bias[told, None]], dim=1).double()
    missed = wanted - hidden @ now.T
    square = hidden.T @ hidden
    ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
    change = torch.linalg.solve(square + ridge, hidden.T @ missed).T
    layer.weight[told] += change[:, :-1].float()
    layer.bias[told] += change[:, -1].float()
    return _size(missed), _size(missed - hidden @ change.T)


def _size(errors: torch.Tensor) -> float:
    return float(errors.square().mean().sqrt())


def _told(shape: Shape) -> torch.Tensor:
    """Logarithms of columns and rows in tokens over heads.SINK_SIZE."""
    height, width, _ = shape
    return torch.tensor([width / 2 / heads.SINK_SIZE, height / 2 / heads.SINK_SIZE], dtype=torch.float64).log()


def _hidden(
    model: WanTransformer3DModel,
    shape: Shape,
    said: list[torch.Tensor],
    grey_of: Callable[[int, int], torch.Tensor],
    seed: int,
) -> torch.Tensor:
    """Hidden units of the second block's feed-forward, one row per token after frame 0, each with a wish of its own."""
    height, width, frames = shape
    dice = torch.Generator().manual_seed(seed)
    first = height * width // 4
    wanted = torch.stack([_wish(said, dice) for _ in range(first * frames)])
    picture = torch.randn(16, height, width, generator=dice)
    image = grey_of(height, width)[None, :, None].repeat(1, 1, frames, 1, 1)
    image[0, :, 0] = picture
    mask = torch.zeros(1, 4, frames, height, width)
    mask[:, :, 0] = 1
    latents = torch.cat([torch.randn(image.shape, generator=dice), mask, image], dim=1)

    def ask(module: torch.nn.Module, arguments: object, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[0, :, initial.WISH : initial.WISH + initial.MOTIONS] = wanted
        return out

    handle = model.blocks[0].attn2.register_forward_hook(ask)
    try:
        nothing = torch.zeros(1, 512, model.config.text_dim)
        units = wishes.input_of(model.blocks[1].ffn.net[2], lambda: model(latents, torch.tensor([630.0]), nothing))
    finally:
        handle.remove()
    return units[first:]


def _wish(said: list[torch.Tensor], dice: torch.Generator) -> torch.Tensor:
    """What a wording says, less or more clearly, or a mixture of two."""

    def one() -> torch.Tensor:
        wordings = said[int(torch.randint(len(said), (), generator=dice))]
        return wordings[int(torch.randint(len(wordings), (), generator=dice))]

    low, high = wishes.MOVES_WORDING[0]
    clear = one() * (low + (high - low) * float(torch.rand((), generator=dice)))
    blurred = clear + wishes.MOVES_WORDING[1] * torch.randn(clear.shape, generator=dice)
    if float(torch.rand((), generator=dice)) >= MIXED:
        return blurred
    share = float(torch.rand((), generator=dice))
    return blurred * share + one() * (1 - share)
