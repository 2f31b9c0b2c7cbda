"""Text and image conditioning against diffusers' own pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from PIL import Image

from wan2_i2v.models import components
from wan2_i2v.models.causal_vae import Given
from wan2_i2v.rows import ModelFiles
from wan2_i2v.stages import image, text

PROMPT = "A  skater turns &amp; waves.\nSoft light — nothing else."


@pytest.fixture(scope="module")
def pipe(checkpoint: Path):
    return WanImageToVideoPipeline.from_pretrained(
        checkpoint, image_encoder=None, image_processor=None, torch_dtype=torch.float32
    )


@pytest.fixture(scope="module")
def source(checkpoint: Path):
    return components.Source(ModelFiles.in_folder(checkpoint), "cpu", "float32")


def test_image_conditioning_equals_prepare_latents(pipe, source):
    picture = Image.effect_noise((48, 32), 80).convert("RGB")
    tensor = pipe.video_processor.preprocess(picture, height=32, width=48)
    with torch.no_grad():
        _, expected = pipe.prepare_latents(tensor, 1, 16, 32, 48, 13, torch.float32, torch.device("cpu"))
    with components.vae(source, "encoder") as vae:
        ours = image.condition(vae, Given(image.to_tensor(picture)), 13)
    assert ours.shape == (1, 20, 4, 4, 6)
    assert (ours - expected).abs().max() < 1e-5


@pytest.mark.parametrize("frames", [5, 13])
def test_conditioning_on_first_and_last_picture_equals_prepare_latents(pipe, source, frames):
    first, last = (Image.effect_noise((48, 32), sigma).convert("RGB") for sigma in (80, 20))
    tensors = [pipe.video_processor.preprocess(picture, height=32, width=48) for picture in (first, last)]
    size = (1, 16, 32, 48, frames, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        _, expected = pipe.prepare_latents(tensors[0], *size, last_image=tensors[1])
    with components.vae(source, "encoder") as vae:
        ours = image.condition(vae, Given(image.to_tensor(first), image.to_tensor(last)), frames)
    assert (ours - expected).abs().max() < 1e-5


def test_a_surplus_of_frames_shows_the_last_picture_too(source):
    """Of 11 frames the model makes 13: the file's last frame and the two that are cut are all given."""
    picture = image.to_tensor(Image.effect_noise((48, 32), 80).convert("RGB"))
    with components.vae(source, "encoder") as vae:
        mask = image.condition(vae, Given(picture, picture, 3), 13)[0, :4, :, 0, 0]
    assert mask.tolist() == [[1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]]


@pytest.mark.parametrize("prompt", [PROMPT, "", "日本語 ☃"])
def test_text_embeddings_equal_diffusers(pipe, source, prompt):
    with torch.no_grad():
        expected, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    with components.text_encoder(source) as encoder:
        ours = text.encode_prompt(encoder, prompt)
    assert ours.shape == (1, 512, 32)
    assert (ours - expected).abs().max() < 1e-5


def test_embeddings_are_zero_after_the_prompt(source):
    with components.text_encoder(source) as encoder:
        ours = text.encode_prompt(encoder, "short")
    length = len("short") + 1
    assert ours[:, :length].abs().amax(dim=-1).min() > 0
    assert ours[:, length:].abs().max() == 0


def test_long_prompts_are_cut_at_512_tokens(source):
    with components.text_encoder(source) as encoder:
        assert text.encode_prompt(encoder, "x" * 5000).shape == (1, 512, 32)


def test_components_give_their_memory_back(source):
    with components.transformer(source, "high") as model:
        assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_each_half_of_the_vae_reads_its_own_weights_and_the_two_make_the_whole(checkpoint, source, half):
    whole = AutoencoderKLWan.from_pretrained(checkpoint / "vae")
    with components.vae(source, half) as vae:
        names = {name for name, _ in vae.named_parameters()}
        assert all(torch.equal(value, whole.get_parameter(name)) for name, value in vae.named_parameters())
    own = {"encoder": ("encoder.", "quant_conv."), "decoder": ("decoder.", "post_quant_conv.")}[half]
    assert names == {name for name, _ in whole.named_parameters() if name.startswith(own)}


def test_components_are_freed_after_an_exception(source):
    with pytest.raises(ZeroDivisionError), components.vae(source, "encoder") as model:
        raise ZeroDivisionError
    assert all(parameter.device.type == "meta" for parameter in model.parameters())
