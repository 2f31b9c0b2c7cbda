"""Prompts from parts."""

from __future__ import annotations

import pytest

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.presets import MOUTH_NEGATIVE
from wan2_i2v.prompting.compose import Parts, compose, negative
from wan2_i2v.prompting.lint import lint


def test_all_parts_become_sentences_without_findings():
    parts = Parts("a skater", "spins slowly", "arms raised", "on the ice", "soft arena light", "holds still")
    text = compose(parts)
    assert text == "A skater spins slowly on the ice, arms raised, in soft arena light. The camera holds still."
    assert lint(text, negative()) == ()


def test_missing_parts_leave_no_gaps():
    assert compose(Parts("a cat.", " walks ")) == "A cat walks."


@pytest.mark.parametrize("parts", [Parts("", "walks"), Parts("a cat", " ")])
def test_subject_and_action_are_needed(parts):
    with pytest.raises(InvalidRequest):
        compose(parts)


def test_mouth_prevention_is_added_once():
    assert negative() == MOUTH_NEGATIVE
    assert negative("blurry, talking").count("talking") == 1
    assert negative(negative("blurry")) == negative("blurry")
    assert negative("blurry", allow_speech=True) == "blurry"
