"""The experts' start, second half: what the text asks for, and how far each place then moves.

First the text attention of the first block is fitted to tell the motion (least squares over training wordings), then the
feed-forward of the second block learns, from the motion's formula alone, how far each token moves at each time. No
picture is needed for either, so it takes a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import initial, motions, wording

PROMPTS, RIDGE = 1500, 1e-3
SHAPES = (
    (8, 8, 31),
    (16, 16, 9),
    (12, 20, 9),
    (20, 12, 13),
    (32, 32, 19),
    (24, 24, 13),
    (40, 22, 19),
    (24, 36, 19),
    (16, 16, 19),
)
"""Latent height, width and frames."""
TOKENS, STEPS, RATE = 600, 500, 4e-3
Encode = Callable[[str], torch.Tensor]


class _Seen(Exception):
    """Carries a layer's input out of the model."""


@torch.no_grad()
def _input_of(layer: torch.nn.Module, call: Callable[[], Any]) -> torch.Tensor:
    """What reaches `layer` when the model is called; the rest of the model does not run."""

    def catch(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        raise _Seen(arguments[0])

    handle = layer.register_forward_pre_hook(catch)
    try:
        call()
    except _Seen as seen:
        return torch.as_tensor(seen.args[0])[0]
    finally:
        handle.remove()
    raise AssertionError("the layer was not reached")


@torch.no_grad()
def read_wishes(model: WanTransformer3DModel, encode: Encode) -> None:
    """Fit the first block's text output so that channel WISH + i says that motion i is asked for."""
    rng = np.random.default_rng(21)
    output = model.blocks[0].attn2.to_out[0]
    timestep, rows, asked = torch.tensor([950.0]), [], []
    for _ in range(PROMPTS):
        prompt, motion = wording.random_request(rng)
        latents, embeds = torch.randn(1, 36, 1, 2, 2), encode(prompt)
        rows.append(_input_of(output, lambda x=latents, e=embeds: model(x, timestep, e))[0])
        asked.append(wording.MOTIONS.index(motion))
    design = torch.cat([torch.stack(rows), torch.ones(PROMPTS, 1)], dim=1).double().numpy()
    wanted = np.eye(len(wording.MOTIONS))[asked]
    solution = np.linalg.solve(design.T @ design + RIDGE * PROMPTS * np.eye(design.shape[1]), design.T @ wanted)
    print("motion told from the text", (np.argmax(design @ solution, 1) == asked).mean())
    rows_out = slice(initial.WISH, initial.WISH + len(wording.MOTIONS))
    fitted = torch.from_numpy(initial.WISH_GAIN * solution).float()
    output.weight[rows_out], output.bias[rows_out] = fitted[:-1].T, fitted[-1]


def amounts(motion: str, height: int, width: int, frames: int) -> torch.Tensor:
    """(frames · height / 2 · width / 2, 4): tokens that content has moved right, left, down, up, at token centres."""
    blank = np.zeros((8 * height, 8 * width, 3), np.uint8)
    setting, fields = motions.scene(blank), []
    for frame in range(frames):
        x, y = motions.displacement(motions.resolve(motion), setting, 4 * frame)
        moved = np.stack([setting.x - x, setting.y - y], axis=-1)[8::16, 8::16] / 16
        fields.append(np.stack([moved[..., 0], -moved[..., 0], moved[..., 1], -moved[..., 1]], axis=-1).clip(0))
    return torch.from_numpy(np.stack(fields)).float().reshape(-1, 4)


def learn_amounts(model: WanTransformer3DModel, encode: Encode, grey_of: Callable[[int, int], torch.Tensor]) -> None:
    """Train the second block's feed-forward on `amounts`; `grey_of(height, width)` is the grey latent of a size."""
    rng = np.random.default_rng(22)
    ffn = model.blocks[1].ffn
    inputs, wanted = [], []
    with torch.no_grad():
        inner = ffn.net[0].proj
        inner.weight.copy_(torch.randn_like(inner.weight) * initial.knowledge(inner.in_features))
        inner.bias.normal_()
    for height, width, frames in SHAPES:
        grey = grey_of(height, width)
        for motion in wording.MOTIONS:
            for _ in range(2):
                prompt = wording.sentence(motion, rng)
                image = grey[None, :, None].repeat(1, 1, frames, 1, 1)
                image[:, :, 0] = torch.randn(1, 16, height, width) * rng.uniform(0.3, 1.2)
                mask = torch.zeros(1, 4, frames, height, width)
                mask[:, :, 0] = 1
                latents = torch.cat([torch.randn_like(image), mask, image], dim=1)
                embeds = encode(prompt)
                seen = _input_of(ffn, lambda x=latents, e=embeds: model(x, torch.tensor([950.0]), e))
                chosen = rng.choice(len(seen), min(TOKENS, len(seen)), replace=False)
                inputs.append(seen[chosen])
                wanted.append(amounts(motion, height, width, frames)[chosen])
    _fit(ffn, torch.cat(inputs), torch.cat(wanted))


def _fit(ffn: Any, inputs: torch.Tensor, wanted: torch.Tensor) -> None:
    """Adam on the squared error; only the AMOUNT rows of the output are used."""
    inner, rows = ffn.net[0].proj, slice(initial.AMOUNT, initial.AMOUNT + 4)
    weight = torch.zeros(4, ffn.net[2].in_features, requires_grad=True)
    optimizer = torch.optim.Adam([inner.weight, inner.bias, weight], lr=RATE)
    generator = torch.Generator().manual_seed(5)
    unused = (inner.weight == 0).all(0)
    for step in range(STEPS):
        chosen = torch.randint(len(inputs), (2048,), generator=generator)
        made = torch.nn.functional.gelu(inner(inputs[chosen]), approximate="tanh") @ weight.T
        error = (made - wanted[chosen]).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        error.backward()
        inner.weight.grad[:, unused] = 0
        optimizer.step()
        if step % 100 == 99:
            print("amounts", step + 1, float(error.detach()), "of", float(wanted.square().mean()), flush=True)
    with torch.no_grad():
        ffn.net[2].weight[rows] = weight
        ffn.net[2].bias[rows] = 0
