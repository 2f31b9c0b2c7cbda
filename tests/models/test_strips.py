"""The VAE in strips gives what it gives on the whole picture."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan

import plans
from wan2_i2v import memory
from wan2_i2v.models import catalog, causal_vae, strips
from wan2_i2v.models.catalog import MINI


@pytest.fixture(scope="module")
def mini():
    return AutoencoderKLWan.from_pretrained(MINI / "vae").eval()


@pytest.fixture(scope="module")
def published():
    """The layers and channels of the published VAE, a third as wide."""
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=32).eval()


def decoded(vae, latents, count):
    dim, parts = strips.cut(latents.shape, count)
    found = [torch.cat(list(strips.decode_strip(vae, latents, dim, part)), dim=2) for part in parts]
    return torch.cat(found, dim=dim)


@pytest.mark.parametrize("size", [(1, 16, 3, 12, 20), (1, 16, 2, 22, 10)])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_embedded_vae_decodes_to_the_same_bits(mini, size, count):
    latents = torch.randn(size, generator=torch.Generator().manual_seed(1))
    whole = torch.cat(list(causal_vae.decode_stream(mini, latents)), dim=2)
    assert torch.equal(decoded(mini, latents, count), whole)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("count", [2, 5])
def test_the_embedded_vae_encodes_to_the_same_bits(mini, count, last):
    image = torch.rand((1, 3, 96, 160), generator=torch.Generator().manual_seed(2)) * 2 - 1
    given = causal_vae.Given(image, image.flip(3) if last else None, 2)
    whole = causal_vae.encode_canvas(mini, given, 41)
    assert torch.equal(strips.encode_canvas(mini, given, 41, count), whole)


def test_the_published_layers_agree_to_the_last_digits(published):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn((1, 16, 2, 6, 36), generator=generator)
    whole = torch.cat(list(causal_vae.decode_stream(published, latents)), dim=2)
    assert (decoded(published, latents, 3) - whole).abs().max() <= 1e-5
    image = torch.rand((1, 3, 240, 32), generator=generator) * 2 - 1
    given = causal_vae.Given(image)
    whole = causal_vae.encode_canvas(published, given, 13)
    assert (strips.encode_canvas(published, given, 13, 2) - whole).abs().max() <= 1e-5


def test_margins_are_those_of_the_layers(published):
    """No smaller margin gives the same values, so none is larger than it must be by more than rounding up."""
    assert (strips.decoder_margin(published), strips.encoder_margin(published)) == (13, 9)


def test_the_memory_plan_knows_the_margins(published, mini):
    for vae, row in ((published, plans.a14b()), (mini, catalog.find("mini"))):
        known = memory.vae_of(row, 4)
        assert (known.decoder_margin, known.encoder_margin) == (strips.decoder_margin(vae), strips.encoder_margin(vae))


def test_a_side_is_cut_into_even_parts_once_per_row():
    dim, parts = strips.cut(torch.Size((1, 16, 3, 9, 5)), 4)
    assert dim == 3
    assert [index for part in parts for index in part] == list(range(9))
    assert len(strips.cut(torch.Size((1, 16, 1, 2, 3)), 8)[1]) == 3
