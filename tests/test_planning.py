"""What the picture and the texts bring into a plan: the crop that keeps faces, warnings, mouth prevention, tokens."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from PIL import Image

import plans
from wan2_i2v import pictures, planning
from wan2_i2v.models import catalog
from wan2_i2v.presets import MOUTH_NEGATIVE
from wan2_i2v.prompting import tokens
from wan2_i2v.request import GenerateRequest

CALM = "A woman looks into the camera with closed lips in soft light."


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """A tall picture with the face in its lowest third, where the centre crop cuts it off."""
    canvas = np.full((1000, 420, 3), 90, np.uint8)
    canvas[640:1000, 30:390] = skimage.data.astronaut()[0:360, 40:400]
    path = tmp_path_factory.mktemp("pictures") / "low.png"
    Image.fromarray(canvas).save(path)
    return path


def planned(picture, **fields):
    request = GenerateRequest(**({"image": str(picture), "prompt": CALM, "width": 128, "height": 128} | fields))
    return planning.draft(request, pictures.read_facts(picture), picture, plans.row(), plans.CPU, seed=7)


def told(plan, *words):
    return [text for text in plan.warnings if all(word in text for word in words)]


def test_the_automatic_crop_keeps_the_face_and_the_plan_says_so(portrait):
    centre, auto = planned(portrait), planned(portrait, crop="auto")
    (face,) = auto.analysis.faces
    assert auto.crop_box is not None and centre.crop_box is None
    left, top, right, bottom = auto.crop_box
    assert top <= face.box[1] and face.box[3] <= bottom and right - left == pytest.approx(bottom - top, abs=0.1)
    assert told(centre, "crop center keeps", "--crop auto keeps 100%")
    assert not told(auto, "--crop auto")
    prepared = pictures.prepare(portrait, 128, 128, "auto", "white", auto.crop_box)
    upright = Image.open(portrait).crop(tuple(round(side) for side in auto.crop_box)).resize((128, 128))
    assert np.abs(np.asarray(prepared).astype(int) - np.asarray(upright)).mean() < 3


def test_the_analysis_is_no_part_of_the_plans_identity_but_the_box_is(portrait):
    centre, auto = planned(portrait), planned(portrait, crop="auto")
    assert (
        centre.fingerprint() == centre.model_copy(update={"analysis": None, "warnings": centre.warnings}).fingerprint()
    )
    assert centre.fingerprint() != auto.fingerprint()
    assert type(auto).model_validate_json(auto.model_dump_json()) == auto


def test_mouth_prevention_is_added_once_and_shown():
    given = plans.plan(negative_prompt="blurry, Talking,")
    assert given.negative_prompt.startswith("blurry, Talking, mouth opening, lip movement, speaking")
    assert given.added_negative == MOUTH_NEGATIVE.replace("talking, ", "")
    assert plans.plan(negative_prompt=given.negative_prompt).added_negative == ""
    assert plans.plan(negative_prompt="blurry", allow_speech=True).negative_prompt == "blurry"
    assert plans.plan(nag=False).negative_prompt == ""


def test_a_visible_mouth_without_guidance_is_warned_of(portrait):
    large = {"crop": "auto", "nag": False}
    seen = planned(portrait, **large).analysis
    assert bool(told(planned(portrait, **large), "a mouth is large enough")) == (seen.mouth_risk == "high")
    assert not told(planned(portrait, allow_speech=True, **large), "a mouth is large enough")


def test_the_linters_findings_are_warnings():
    plan = plans.plan(prompt="woman, dancing, singing, laughing", negative_prompt="no fireworks")
    assert told(plan, "prompt: 4 keywords between commas", "Write one or two sentences")
    assert told(plan, "negative prompt: 'no fireworks' in a negative prompt is a double negation")


def test_length_is_counted_by_the_models_own_tokenizer(portrait):
    mini = catalog.find("mini")
    count = tokens.counter(mini.files.tokenizer)
    long = "the quick brown fox jumps over a lazy dog " * 200
    from transformers import AutoTokenizer

    exact = len(AutoTokenizer.from_pretrained(mini.files.tokenizer)(long).input_ids)
    assert count(long) == exact
    assert count("short") >= len("short")
    request = GenerateRequest(image=str(portrait), prompt=long)
    plan = planning.draft(request, pictures.read_facts(portrait), portrait, mini, plans.CPU, seed=7)
    assert told(plan, f"prompt: {exact} tokens; the model reads 512") if exact > 512 else exact


def test_a_checkpoint_without_a_tokenizer_leaves_length_out(tmp_path):
    assert tokens.counter(None) is None
    assert tokens.counter(tmp_path) is None
