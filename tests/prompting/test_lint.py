"""The linter: each rule finds what it is for, and leaves good prompts alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v.presets import MOUTH_NEGATIVE, PROMPT_PRESETS
from wan2_i2v.prompting.lint import MAX_TOKENS, lint

GOOD = (
    "A figure skater spins on the ice with both arms raised, in soft arena light.",
    "An old man turns his head slowly to the window while morning light falls on his face.",
    "The woman lifts her right hand and waves at the camera in warm evening light.",
    "Waves roll onto a beach at sunset; the camera holds still.",
    "A cat walks along a garden wall, its tail swaying, in bright sunlight.",
    "Rain runs down the window of a dark room while a candle flickers.",
    "A soldier kneels in the fog and lowers his head.",
    "Snow falls quietly on a wooden bridge at night under a street lamp.",
    "A girl with long hair stands in a field of wheat; the wind moves her hair in golden light.",
    "The dancer raises one leg and spins once on her toes on a dark stage, lit from above.",
    "Smoke rises from a chimney into a cold blue sky at dawn.",
    "A red car drives along a coastal road at dusk, its lights on, seen from above.",
    "A portrait of a woman who blinks and breathes calmly with closed lips in soft window light.",
    "The knight draws his sword with the right hand; sunlight glints on the blade.",
    "Fireworks burst in the night sky over a harbour and light up the water.",
    "A man reads a newspaper at a table by the window, turning a page with his left hand, in grey daylight.",
    "A horse gallops across a meadow, its mane flowing, under dark storm clouds.",
    "The camera pushes in slowly on a vase of flowers in warm afternoon light.",
)


def rules(*texts: str, **options: object) -> set[str]:
    return {finding.rule for finding in lint(*texts, **options)}


@pytest.mark.parametrize("prompt", GOOD)
def test_good_prompts_have_no_findings(prompt):
    assert lint(prompt, MOUTH_NEGATIVE) == ()


@pytest.mark.parametrize("name", PROMPT_PRESETS)
def test_rewritten_presets_have_no_findings(name):
    preset = PROMPT_PRESETS[name]
    assert lint(preset.prompt, preset.negative_prompt) == ()


@pytest.mark.parametrize("name", [name for name in PROMPT_PRESETS if name != "fireworks"])
def test_verbatim_presets_are_keyword_lists(name):
    assert "sentences" in rules(PROMPT_PRESETS[name].verbatim, MOUTH_NEGATIVE)


@pytest.mark.parametrize(
    ("prompt", "negative", "rule"),
    [
        ("A man runs, jumps, kicks a ball and climbs a wall in the sunlight.", MOUTH_NEGATIVE, "one-action"),
        ("A person performs an animated movement in warm light.", MOUTH_NEGATIVE, "body-part"),
        ("woman, beach, sunset, wind, cinematic", MOUTH_NEGATIVE, "sentences"),
        ("Rain rain rain and more rain and rain again.", "", "sentences"),
        ("A cat walks along a wall.", "", "lighting"),
        ("A woman walks in the rain.", "blurry", "mouth-prevention"),
        ("A woman is talking in the rain.", MOUTH_NEGATIVE, "mouth-prevention"),
        ("Fireworks burst at night.", "no fireworks", "double-negation"),
        ("A street at night without any cars.", "", "negation"),
        ("A woman laughs in the sunlight.", MOUTH_NEGATIVE, "emotion"),
        ("Fireworks burst with bright explosions at night.", "explosions, daytime", "contradiction"),
        ("A cat walks in sunlight, masterpiece.", "", "filler"),
        ("  ", "", "empty"),
    ],
)
def test_each_rule_finds_its_fault(prompt, negative, rule):
    found = [finding for finding in lint(prompt, negative) if finding.rule == rule]
    assert found
    assert all(finding.instead and finding.message for finding in found)


def test_negative_that_is_not_evaluated():
    assert "not-evaluated" in rules("A cat walks in sunlight.", "blurry", negative_evaluated=False)
    assert "not-evaluated" not in rules("A cat walks in sunlight.", "blurry")
    assert "not-evaluated" not in rules("A cat walks in sunlight.", "", negative_evaluated=False)


def test_speech_may_be_allowed():
    assert lint("A woman talks and smiles in warm light.", "", allow_speech=True) == ()


def test_length_is_counted_by_the_given_tokenizer():
    long = "a cat walks in sunlight " * 200
    finding = next(f for f in lint(long, count=lambda text: len(text.split())) if f.rule == "too-long")
    assert len(long[: finding.span[0]].split()) == MAX_TOKENS
    assert "too-long" not in rules(long)


def test_the_knowledge_bases_own_faults_are_found():
    preset = PROMPT_PRESETS["fireworks"]
    assert "double-negation" in rules(preset.verbatim, preset.verbatim_negative)
    assert "emotion" in rules(PROMPT_PRESETS["character-animation"].verbatim, MOUTH_NEGATIVE)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_gets_an_answer_with_spans_inside_it(prompt, negative):
    for finding in lint(prompt, negative, count=len):
        text = prompt if finding.field == "prompt" else negative
        assert 0 <= finding.span[0] <= finding.span[1] <= len(text)
