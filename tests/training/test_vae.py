"""The VAE inflated in time codes a clip as the pictures of every fourth frame."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from training import architecture, vae


def test_inflated_latents_are_those_of_every_fourth_frame():
    torch.manual_seed(0)
    coder = AutoencoderKLWan(**architecture.VAE)
    vae.inflate(coder)
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        whole = coder.encode(clip).latent_dist.mean
    assert torch.allclose(whole, vae.encode_frames(coder, clip[:, :, ::4]), atol=1e-4)
