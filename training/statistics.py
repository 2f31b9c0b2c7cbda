"""Mean and standard deviation of the VAE's latent channels, measured on training pictures and written into its config."""

from __future__ import annotations

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from training.pictures import Pool
from training.vae import batch

SEED = 5
BATCHES = 12


@torch.no_grad()
def with_statistics(vae: AutoencoderKLWan, pool: Pool) -> AutoencoderKLWan:
    """The same VAE with latents_mean and latents_std of first frames and moving frames together."""
    rng = np.random.default_rng(SEED)
    values = torch.cat(
        [
            vae.encode(batch(pool, 4, frames, rng)).latent_dist.mean.transpose(0, 1).flatten(1)
            for frames in (1, 9)
            for _ in range(BATCHES)
        ],
        dim=1,
    )
    mean, std = values.mean(1), values.std(1)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return vae
