"""The light that comes with a motion: which falls on each token at each time, learned from the motions' formulas alone.

The feed-forwards of three blocks add it: the high-noise expert's as the text says, the low-noise expert's only as far as the
noisy clip has it already. Comes in: an expert that knows wishes and moves (`wishes`). Goes out: the same with light.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import experts, initial, motions, shifts, wishes, wording

STEPS, PACE = 2500, (5e-3, 1.0)
WORDING = ((0.6, 1.5), 0.15)
"""As wishes.MOVES_WORDING. Light comes or stays away, so it has to bear what guidance does to wishes: NAG and a negative prompt
about mouths make one of 1.3, others of 0.2."""
LIT = (3, 5, 6)
"""The first block tells the others."""
DARK = 110.0
"""The grey, in levels, that light falls on to be measured: what a burst takes from a colour does not make it black."""
NONE, BEGUN, NOISIEST, MOVED_COLOUR = 0.5, (0.15, 0.45), (0.3, 0.9), 0.05
"""Of light begun by the high-noise expert: how often there is none against some; the share up to which it is none, and from
which it is all; between which noise levels it is looked for; the picture's own change of colour as it moves, in units of
initial.TINT."""


@torch.no_grad()
def _lights(coder: AutoencoderKLWan, motion: str, height: int, width: int, frames: int) -> torch.Tensor:
    """What the motion's light adds, (frames · rows · columns, 64 + 4): to the normalised latents, the encoder is linear;
    and, the same in every row, to the mean of red, green and blue in units of initial.TINT levels; how many latent places
    the clip has beside the given frame."""
    rows, places = frames * (height // 2) * (width // 2), torch.tensor([(frames - 1.0) * height * width])
    if motion not in motions.LIGHTS:
        return torch.cat([torch.zeros(initial.PATCH_VALUES + initial.COLOURS), places]).expand(rows, -1)
    setting = motions.scene(np.zeros((8 * height, 8 * width, 3), np.uint8))
    dark = np.full((8 * height, 8 * width, 3), DARK, np.float32)
    lit = np.stack([np.clip(motions.LIGHTS[motion](setting, 4 * t, dark), 0, 255) for t in range(frames)])
    latents = experts.encode_clip(coder, lit) - experts.encode_clip(coder, dark[None])
    colour = torch.from_numpy((lit[1:] - dark).mean((0, 1, 2)) / initial.TINT).float()
    return torch.cat([shifts.tokens(latents).flatten(0, 2), torch.cat([colour, places]).expand(rows, -1)], dim=1)


def _as_found(light: torch.Tensor, tints: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the low-noise expert finds of `light` (rows, 68) in noisy clips, FOUND's (rows, 3), and what it then has to draw."""
    dice = torch.Generator().manual_seed(seed)
    begun = torch.rand(len(light), 1, generator=dice) * (1 + NONE) - NONE
    begun = begun.clamp(min=0)
    level = torch.empty(len(light), 1).uniform_(*NOISIEST, generator=dice)
    noise = torch.randn(len(light), len(tints.T), generator=dice) * level / (1 - level) / light[:, -1:].sqrt()
    moved = torch.randn(len(light), initial.COLOURS, generator=dice) * MOVED_COLOUR
    found = begun * light[:, -1 - initial.COLOURS : -1] + noise @ torch.linalg.pinv(tints) + moved
    return found, light[:, : initial.PATCH_VALUES] * ((begun - BEGUN[0]) / (BEGUN[1] - BEGUN[0])).clamp(0, 1)


def learn(
    model: WanTransformer3DModel, coder: AutoencoderKLWan, knowledge: wishes.Knowledge, log: Path, *, finds: bool
) -> float:
    """Train the feed-forwards of LIT blocks, the first for the others, to add light; returns the share of it they miss.

    With `finds`, only as far as the noisy clip has it already (see `initial._find_light`).
    """
    targets = {
        motion: torch.cat([_lights(coder, motion, *shape) for shape in wishes.SHAPES]) for motion in wording.MOTIONS
    }
    torch.manual_seed(6)
    tints, known = experts.tints(coder), torch.arange(wishes.BEARINGS + initial.MOTIONS)
    if finds:
        known = torch.cat([known, len(known) + initial.HIDDEN_COUNT + torch.arange(initial.COLOURS)])
    net = wishes.Net(model.config.ffn_dim, len(known), torch.arange(len(known)), len(LIT) - 1, initial.PATCH_VALUES)

    def batch(seed: int, often: tuple[str, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
        rows, light = knowledge.batch(targets, seed, often, WORDING)
        if not finds:
            return rows, light[:, : initial.PATCH_VALUES]
        found, wanted = _as_found(light, tints, seed)
        return torch.cat([rows, found], dim=1), wanted

    def error(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (net(rows) - wanted).square().mean()

    net.scale(batch(wishes.SCALING)[0])
    wishes.descend(net.parameters, lambda step: error(*batch(step, tuple(motions.LIGHTS))), STEPS, PACE, log)
    with torch.no_grad():
        batches = [batch(seed) for seed in wishes.EVALUATION]
        left = sum(float(error(*rows)) for rows in batches)
        all_of_it = sum(float(wanted.square().mean()) for _, wanted in batches)
        # Light is taken from the noise that is left.
        for layer in net.made:
            layer.neg_()
    net.write(model, LIT, known, torch.arange(initial.NOISE, initial.NOISE + initial.PATCH_VALUES))
    return (left / all_of_it) ** 0.5
