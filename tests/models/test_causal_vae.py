"""The streaming VAE gives diffusers' own results: encoded bit for bit, decoded to the last digits."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan

from wan2_i2v.models import causal_vae
from wan2_i2v.models.causal_layers import Stream


@pytest.fixture(scope="module", params=[None, 2], ids=["plain", "patched"])
def vae(request):
    torch.manual_seed(0)
    channels = 3 if request.param is None else 3 * request.param**2
    mult = [1, 1, 2, 2] if request.param is None else [1, 2, 2]
    down = [False, True, True] if request.param is None else [True, True]
    return (
        AutoencoderKLWan(
            base_dim=16,
            dim_mult=mult,
            temperal_downsample=down,
            num_res_blocks=1,
            patch_size=request.param,
            in_channels=channels,
            out_channels=channels,
        )
        .eval()
        .requires_grad_(False)
    )


def test_canvas_latents_equal_diffusers_encode(vae):
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    canvas = torch.cat([image.unsqueeze(2), torch.zeros(1, 3, 12, 32, 48)], dim=2)
    expected = vae.encode(canvas).latent_dist.mode()
    assert torch.equal(causal_vae.encode_canvas(vae, causal_vae.Given(image), 13), expected)


@pytest.mark.parametrize("ending", [1, 3, 4])
def test_a_last_picture_ends_the_canvas(vae, ending):
    image, last = torch.rand(1, 3, 32, 48) * 2 - 1, torch.rand(1, 3, 32, 48) * 2 - 1
    between = torch.zeros(1, 3, 12 - ending, 32, 48)
    canvas = torch.cat([image.unsqueeze(2), between, *[last.unsqueeze(2)] * ending], dim=2)
    expected = vae.encode(canvas).latent_dist.mode()
    assert torch.equal(causal_vae.encode_canvas(vae, causal_vae.Given(image, last, ending), 13), expected)


def test_a_picture_of_mid_grey_is_encoded_as_any_other(vae):
    expected = vae.encode(torch.zeros(1, 3, 9, 32, 48)).latent_dist.mode()
    assert torch.equal(causal_vae.encode_canvas(vae, causal_vae.Given(torch.zeros(1, 3, 32, 48)), 9), expected)


def test_decoded_stream_equals_diffusers_decode(vae):
    latents = torch.randn(1, 16, 4, 4, 6)
    chunks = list(causal_vae.decode_stream(vae, latents))
    assert [chunk.shape[2] for chunk in chunks] == [1, 4, 4, 4]
    expected = vae.decode(causal_vae.denormalise(vae, latents)).sample
    assert (torch.cat(chunks, dim=2) - expected).abs().max() <= 1e-5


def test_an_exact_stream_has_diffusers_own_bits(vae):
    """What is left out or done in another place changes nothing; only the decoder's choice of faster kernels does."""
    latents, stream = torch.randn(1, 16, 3, 4, 6), Stream(reuse=False)
    with torch.inference_mode():
        chunks = [
            causal_vae.decoder_rest(
                vae, stream, causal_vae.decoder_middle(vae, stream, latents[:, :, index : index + 1])
            )
            for index in range(3)
        ]
    assert torch.equal(torch.cat(chunks, dim=2), vae.decode(causal_vae.denormalise(vae, latents)).sample)


def test_normalise_and_denormalise_are_inverse(vae):
    latents = torch.randn(1, 16, 2, 3, 3)
    assert torch.allclose(causal_vae.denormalise(vae, causal_vae.normalise(vae, latents)), latents, atol=1e-5)
