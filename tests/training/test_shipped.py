"""mini as it is shipped: what its first block hears in wordings that training does not know, and which expert begins light."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from training.phrases import HELD_OUT, UNKNOWN

from training import experts, motions, wishes, wording
from wan2_i2v.models import components
from wan2_i2v.models.catalog import MINI
from wan2_i2v.presets import PROMPT_PRESETS
from wan2_i2v.rows import ModelFiles
from wan2_i2v.stages.text import encode_prompt

SOURCE = components.Source(ModelFiles.in_folder(MINI), "cpu", "float32")


def expert(part):
    return WanTransformer3DModel.from_pretrained(MINI / part, torch_dtype=torch.float32).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def encode():
    with components.text_encoder(SOURCE) as encoder:
        yield lambda prompt: encode_prompt(encoder, prompt)


def heard(model, embeds):
    return wording.MOTIONS[int(wishes.wish(model, embeds).argmax())]


def test_most_wordings_that_training_does_not_know_are_heard_as_meant(encode):
    model = expert("transformer")
    meant = [(phrase, motion) for motion, phrases in HELD_OUT.items() for phrase in phrases]
    assert sum(heard(model, encode(phrase)) == motion for phrase, motion in meant) >= 0.9 * len(meant)


def test_most_words_that_it_does_not_know_ask_for_gentle_motion(encode):
    model = expert("transformer")
    assert sum(heard(model, encode(phrase)) == "gentle" for phrase in UNKNOWN) >= 0.8 * len(UNKNOWN)


@pytest.mark.parametrize(("begun", "least", "most"), [(1.0, 0.6, 1.2), (0.0, -0.1, 0.2)])
def test_the_low_noise_expert_goes_on_with_fireworks_that_were_begun_and_with_no_others(encode, begun, least, most):
    picture, frames, sigma = np.full((128, 128, 3), 90, np.uint8), 7, 0.6324
    with components.vae(SOURCE, "encoder") as coder, torch.inference_mode():
        lit = experts.encode_clip(coder, motions.clip("fireworks", picture, [4 * t for t in range(frames)]))[None]
        grey = experts.grey_latent(coder)
    still = lit[:, :, :1].repeat(1, 1, frames, 1, 1)
    image = torch.cat([lit[:, :, :1], grey[None, :, None].repeat(1, 1, frames - 1, 1, 1)], dim=2)
    torch.manual_seed(0)
    noisy = (1 - sigma) * (still + begun * (lit - still)) + sigma * torch.randn_like(lit)
    embeds = encode(PROMPT_PRESETS["fireworks"].verbatim)
    with torch.inference_mode():
        made = noisy - sigma * experts.predict(expert("transformer_2"), noisy, image, sigma, embeds)
    light, shown = (lit - still)[:, :, 1:], (made - still)[:, :, 1:]
    assert least < float((light * shown).sum() / light.square().sum()) < most
