"""The VAE's encoder is an exact transform of pixel blocks, in space and, inflated, in time."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from training import architecture, transform, vae


@pytest.fixture(scope="module")
def coder() -> AutoencoderKLWan:
    torch.manual_seed(0)
    made = AutoencoderKLWan(**architecture.VAE).eval()
    transform.construct_encoder(made, smooth(64))
    return made


def smooth(count: int) -> torch.Tensor:
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(noise, (32, 32), mode="bilinear", align_corners=True)


@torch.no_grad()
def test_latents_are_linear_in_the_pixels(coder):
    one, other = smooth(2)[:, None, :, None].unbind(0)
    mean = lambda pixels: coder.encode(pixels).latent_dist.mean  # noqa: E731
    zero = mean(torch.zeros_like(one))
    whole = mean(0.3 * one - 0.5 * other) - zero
    parts = 0.3 * (mean(one) - zero) - 0.5 * (mean(other) - zero)
    # The norm within the border marks' block makes up to LEAK of whatever it sees.
    assert (whole - parts).abs().max() < transform.LEAK
    assert whole.abs().max() > 50 * transform.LEAK


@torch.no_grad()
def test_the_transform_is_orthonormal_up_to_its_scale(coder):
    fine, coarse = transform.fit_blocks(smooth(64))
    for rows in (fine.flatten(1), coarse.flatten(1)):
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-4)


@torch.no_grad()
def test_an_empty_frame_shows_its_four_borders(coder):
    latents = coder.encode(torch.zeros(1, 3, 1, 48, 48)).latent_dist.mean[0, :, 0]
    inner = latents[:, 1:-1, 1:-1]
    assert inner.std((1, 2)).max() < 1e-4
    for channel, border in enumerate(
        (latents[:, 1:-1, 0], latents[:, 1:-1, -1], latents[:, 0, 1:-1], latents[:, -1, 1:-1])
    ):
        shown = border.mean(1) - inner.mean((1, 2))
        assert shown[channel] == pytest.approx(transform.LEAK, abs=0.001)


@torch.no_grad()
def test_inflated_latents_are_those_of_every_fourth_frame(coder):
    vae.inflate(coder)
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    whole = coder.encode(clip).latent_dist.mean
    assert torch.allclose(whole, vae.encode_frames(coder, clip[:, :, ::4]), atol=1e-4)
