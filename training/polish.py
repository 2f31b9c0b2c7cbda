"""The experts' last step: the last block's feed-forward learns the light that motions bring, from wish, time and place.

Its inputs and the remaining error of the picture are gathered once from encoded clips; then only that layer trains, on
single tokens, which is a hundred times cheaper than training the whole expert.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import experts, initial, motions, shifts

CLIPS, TOKENS = 200, 200
STEPS, RATE, BATCH = 350, 2e-3, 2048
FREE = 4 * initial.PATCH_VALUES
"""Hidden units before this one multiply the shift and stay as they are."""


@torch.no_grad()
def gather(
    model: WanTransformer3DModel, expert: experts.Expert, shards: list[list[experts.Sample]], reader: experts.Reader
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of the last feed-forward (tokens, dim) and the error left in each token's patch (tokens, 64).

    Every fourth clip has a motion without light, with no error to learn from: there, the layer must add nothing.
    """
    rng = np.random.default_rng(31)
    seen: list[torch.Tensor] = []
    handle = model.blocks[-1].ffn.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0]))
    inputs, errors = [], []
    lit = [sample for shard in shards for sample in shard if sample.motion in motions.LIGHTS]
    dark = [sample for shard in shards for sample in shard if sample.motion not in motions.LIGHTS]
    for index in range(CLIPS):
        pool = dark if index % 4 == 3 else lit
        sample = pool[rng.integers(len(pool))]
        clean, image = sample.latents.float()[None], sample.image_latent.float()[None]
        sigma = experts.draw_sigma(expert, rng)
        noisy = sigma * torch.randn_like(clean) + (1 - sigma) * clean
        made = noisy - sigma * experts.predict(model, noisy, image, sigma, reader([sample]))
        left = shifts.tokens((clean - made)[0]).flatten(0, 2)
        chosen = torch.from_numpy(rng.permutation(len(left))[:TOKENS])
        inputs.append(seen.pop()[chosen])
        errors.append(left[chosen] if index % 4 != 3 else torch.zeros_like(left[chosen]))
    handle.remove()
    return torch.cat(inputs), torch.cat(errors)


def polish(model: WanTransformer3DModel, inputs: torch.Tensor, errors: torch.Tensor) -> float:
    """Train the free hidden units on `errors`; returns the share of the error that is left on tokens not trained on."""
    ffn = model.blocks[-1].ffn
    inner, out = ffn.net[0].proj, ffn.net[2]
    used = initial.knowledge(inner.in_features)
    weight = (torch.randn(inner.out_features - FREE, inner.in_features) * used).requires_grad_()
    bias = torch.randn(inner.out_features - FREE).requires_grad_()
    outer = torch.zeros(initial.PATCH_VALUES, inner.out_features - FREE, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias, outer], lr=RATE)
    generator = torch.Generator().manual_seed(6)
    kept = len(inputs) * 9 // 10
    for step in range(STEPS):
        chosen = torch.randint(kept, (BATCH,), generator=generator)
        made = _hidden(inputs[chosen], weight * used, bias) @ outer.T
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        (made - errors[chosen]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        rest = errors[kept:] - _hidden(inputs[kept:], weight * used, bias) @ outer.T
        inner.weight[FREE:], inner.bias[FREE:] = weight * used, bias
        out.weight[:, FREE:] = 0
        out.weight[initial.COPY : initial.COPY + initial.PATCH_VALUES, FREE:] = outer
    return float(rest.square().mean() / errors[kept:].square().mean())


def _hidden(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(torch.nn.functional.linear(inputs, weight, bias), approximate="tanh")
