"""Schedules against numbers computed with the real ComfyUI, and the facts about experts."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan2_i2v.presets import RECIPES
from wan2_i2v.schedule import SCHEDULES, expert_at, sigmas

BOUNDARY = 0.9


def split(scheduler: str, shift: float, steps: int) -> tuple[int, int]:
    """How many steps the high and the low expert take."""
    count = Counter(expert_at(sigma, BOUNDARY) for sigma in sigmas(scheduler, shift, steps)[:-1])
    return count["high"], count["low"]


def test_every_golden_schedule_to_1e_6(golden: Path):
    table = json.loads((golden / "comfyui_sigmas.json").read_text())
    assert len(table) >= 36
    for name, expected in table.items():
        scheduler, shift, steps = name.split("/")
        assert sigmas(scheduler, float(shift), int(steps)) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("rapid", (1.0, 0.9740, 0.8893, 0.6324, 0.0)), ("lightx2v", (1.0, 0.9375, 0.8333, 0.625, 0.0))],
)
def test_the_two_4_step_recipes(recipe, expected):
    known = RECIPES[recipe]
    values = sigmas(known.scheduler, known.flow_shift, known.num_inference_steps)
    assert values == pytest.approx(expected, abs=5e-5)
    assert split(known.scheduler, known.flow_shift, known.num_inference_steps) == (2, 2)


def test_official_is_15_high_and_25_low():
    known = RECIPES["official"]
    assert split(known.scheduler, known.flow_shift, known.num_inference_steps) == (15, 25)


def test_official_starts_where_wan_starts():
    """fm_solvers_unipc: the largest sigma is the shifted 0.999."""
    assert sigmas("linear", 5.0, 40)[0] == pytest.approx(5 * 0.999 / (1 + 4 * 0.999))


@pytest.mark.parametrize("steps", range(2, 41, 2))
def test_beta_8_with_even_steps_splits_in_half(steps):
    assert split("beta", 8.0, steps) == (steps // 2, steps // 2)


def test_beta_drops_repeats():
    values = sigmas("beta", 8.0, 200)
    assert 100 < len(values) - 1 < 200


def test_experts_by_boundary():
    assert expert_at(0.9, 0.9) == "high"
    assert expert_at(0.8999, 0.9) == "low"
    assert expert_at(0.001, 0.0) == "high"
    assert expert_at(0.999, 1.0) == "low"
    assert expert_at(1.0, 1.0) == "high"
    assert expert_at(0.5, None) == "single"


@settings(max_examples=300)
@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0.01, 100), st.integers(1, 200))
def test_sigmas_descend_strictly_within_0_and_1(scheduler, shift, steps):
    values = sigmas(scheduler, shift, steps)
    assert values[-1] == 0.0
    assert len(values) == steps + 1 or (scheduler == "beta" and 2 <= len(values) <= steps)
    assert 0 < values[-2] <= values[0] <= 1
    assert all(first > second for first, second in itertools.pairwise(values))
