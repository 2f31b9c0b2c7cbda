"""Sentences ask for the motion that they are labelled with."""

from __future__ import annotations

import numpy as np

from training import wording
from wan2_i2v.presets import PROMPT_PRESETS


def test_requests_are_a_function_of_the_seed_and_cover_all_motions():
    first = [wording.random_request(np.random.default_rng(seed)) for seed in range(400)]
    again = [wording.random_request(np.random.default_rng(seed)) for seed in range(400)]
    assert first == again
    assert {motion for _, motion in first} == set(wording.MOTIONS)


def test_the_samples_of_the_knowledge_base_are_among_the_phrases():
    known = {phrase for phrases in wording.TRAINING.values() for phrase in phrases}
    assert {preset.verbatim for preset in PROMPT_PRESETS.values()} <= known


def test_held_out_requests_name_trained_motions():
    requests = wording.held_out_requests()
    assert len(requests) > 60
    assert {motion for _, motion in requests} <= set(wording.MOTIONS)
