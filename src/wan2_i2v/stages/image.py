"""Prepared picture → image conditioning, with one load of the VAE encoder for all jobs.

Comes in: `prepared.png`, with a last picture `prepared-last.png` too. Goes out: `conditioning.safetensors` with latent_condition (1, 20, frames, height, width):
the 4 mask channels (1 = given) and the 16 channels of the normalised image latent, as Wan2.2 I2V was trained
(`wan/image2video.py`; diffusers' `WanImageToVideoPipeline.prepare_latents` gives the same).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from wan2_i2v.geometry import VAE_SCALE_TEMPORAL
from wan2_i2v.models import causal_vae, components, strips
from wan2_i2v.models.causal_vae import Given
from wan2_i2v.stages import tensors
from wan2_i2v.stages.base import Context, Job, Stage, one_step, source_of


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """An RGB picture as (1, 3, height, width) float32 in [−1, 1]."""
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32).copy())
    return (pixels / 127.5 - 1).permute(2, 0, 1).unsqueeze(0)


def condition(vae: Any, given: Given, frames: int, parts: int = 1) -> torch.Tensor:
    """latent_condition (1, 20, n+1, height / 8, width / 8) of the `given` pictures for `frames` = 4n+1.

    The VAE works on the picture in `parts` strips.
    """
    encode = causal_vae.encode_canvas if parts == 1 else partial(strips.encode_canvas, strips=parts)
    latent = causal_vae.normalise(vae, encode(vae, given, frames))
    mask = torch.zeros_like(latent[:, :VAE_SCALE_TEMPORAL])
    # Pixel frame 0 counts four times, so that it fills the whole of latent frame 0.
    mask[:, :, 0] = 1
    if given.last_image is not None:
        # The four mask channels are the four pixel frames of a latent frame.
        mask[:, VAE_SCALE_TEMPORAL - given.ending :, -1] = 1
    return torch.cat([mask, latent], dim=1)


def _run(vae: Any, job: Job, context: Context) -> None:
    plan = job.plan
    image = _load(job.workspace.prepared, vae)
    last = None if plan.last_image is None else _load(job.workspace.prepared_last, vae)
    given = Given(image, last, 1 + plan.model_frames - plan.num_frames)
    latent_condition = condition(vae, given, plan.model_frames, plan.strips(STAGE.name))
    tensors.save(job.workspace.conditioning, {"latent_condition": latent_condition})
    context.progress(job, STAGE.name, 1, 1)


def _load(path: Path, vae: Any) -> torch.Tensor:
    with Image.open(path) as picture:
        return to_tensor(picture).to(vae.device, vae.dtype)


STAGE = Stage(
    name="image",
    run=_run,
    done=lambda job: job.workspace.conditioning.exists(),
    steps=one_step,
    model=lambda plan: components.vae(source_of(plan), "encoder"),
    shares=lambda plan: (source_of(plan), "encoder"),
)
