"""Who does what in a cluster: groups of pools, their cards, and the rate that follows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plans
from wan2_i2v import placement
from wan2_i2v.placement import Group, Load

WORK = (Load("text", 2, 1), Load("vae", 30, 1), Load("high", 100, 14), Load("low", 100, 14))


def pools(groups):
    return sorted(pool for group in groups for pool in group.pools)


@given(
    cards=st.integers(1, 60), seconds=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=4), loading=st.floats(0, 60)
)
def test_every_pool_has_cards_and_every_card_a_pool(cards, seconds, loading):
    work = [Load(f"pool {index}", one, loading) for index, one in enumerate(seconds)]
    groups = placement.place(work, cards)
    assert pools(groups) == [load.pool for load in work]
    assert sum(group.cards for group in groups) == cards and min(group.cards for group in groups) >= 1


@given(
    cards=st.integers(1, 7), seconds=st.lists(st.floats(0.01, 1e3), min_size=1, max_size=3), loading=st.floats(0, 60)
)
def test_no_other_way_is_much_faster(cards, seconds, loading):
    work = [Load(f"pool {index}", one, loading) for index, one in enumerate(seconds)]
    best = placement.bottleneck(work, placement.place(work, cards))
    for numbers in itertools.product(range(len(work)), repeat=len(work)):
        groups = [[load.pool for load, own in zip(work, numbers, strict=True) if own == one] for one in set(numbers)]
        for counts in itertools.product(range(1, cards + 1), repeat=len(groups)):
            if sum(counts) == cards:
                way = [Group(pools=tuple(group), cards=count) for group, count in zip(groups, counts, strict=True)]
                assert best <= placement.bottleneck(work, way) * placement.NEARLY + 1e-6


def test_one_card_does_everything():
    assert placement.place(WORK, 1) == (Group(pools=("text", "vae", "high", "low"), cards=1),)


def test_for_one_clip_models_that_take_long_to_load_are_not_swapped():
    work = [replace(load, loading=40) for load in WORK]
    groups = placement.place(work, 3)
    assert {"high"} in [set(group.pools) for group in groups] and {"low"} in [set(group.pools) for group in groups]


def test_a_pool_without_work_takes_no_card():
    assert placement.place(WORK[3:], 2) == (Group(pools=("low",), cards=2),)
    assert placement.place((), 2) == placement.place(WORK, 0) == ()


def test_two_hundred_cards_follow_the_work():
    groups = {group.pools: group.cards for group in placement.place(WORK, 232)}
    seconds = placement.bottleneck(WORK, placement.place(WORK, 232))
    assert sum(groups.values()) == 232 and seconds < (232 / 232 + 14) * 1.05


def test_with_enough_cards_no_model_is_swapped():
    assert [len(group.pools) for group in placement.place([replace(load, loading=0) for load in WORK], 232)] == [1] * 4


def test_stages_of_one_model_are_one_pool():
    names = ("text", "image", "denoise high plain", "denoise high", "denoise low", "decode", "verify")
    assert [placement.pool_of(name) for name in names] == ["text", "vae", "high", "high", "low", "vae", "verify"]
    assert placement.pool_of("denoise single") == "single"


def test_the_plan_of_a_cluster_tells_its_rate():
    plan = plans.plan(plans.a14b("fp8"), device=plans.card(80, 256), num_frames=81, width=832, height=480)
    one, ten = (placement.plan(plan.times, (cards, cards, 32), plans.card(80)) for cards in (1, 10))
    assert ten.clips_per_hour == pytest.approx(10 * one.clips_per_hour, rel=0.05)
    assert one.groups == (Group(pools=("text", "vae", "high", "low"), cards=1),)


def test_checks_that_cannot_keep_up_are_the_limit():
    plan = plans.plan(num_frames=81, width=832, height=480)
    looking = sum(time.seconds for time in plan.times if time.stage == "verify")
    many = placement.plan(plan.times, (1, 10_000, 4), plans.CPU)
    assert many.checkers == 4 and many.clips_per_hour == pytest.approx(3600 * 4 / looking, rel=0.01)


@pytest.mark.parametrize(("cards", "ways"), [(1, None), (2, 2), (3, 2), (6, 5), (8, 8), (16, 10)])
def test_one_clip_is_spread_over_cards_that_divide_the_heads(cards, ways):
    plan = plans.plan(plans.a14b("fp8"), device=plans.card(80, 256))
    found = placement.sequence(plan.times, 5120, cards)
    assert (found.cards if found else None) == ways
    assert found is None or found.seconds < found.alone


ROWS = (("lightx2v", 832, 480), ("official", 832, 480), ("lightx2v", 1280, 720), ("official", 1280, 720))


@pytest.mark.parametrize(("recipe", "width", "height"), ROWS)
def test_the_page_has_the_arithmetic(recipe, width, height):
    model, card = plans.a14b("fp8", default_recipe=recipe), plans.card(80, 256, label="H100 80GB")
    times = plans.plan(model, device=card, num_frames=81, width=width, height=height).times
    found = [placement.plan(times, (1, cards, 8 * cards), card) for cards in (1, 8, 64, 256, 1000)]
    shares = {group.pools: group.cards for group in found[-1].groups}
    cells = [f"{width}×{height}, {recipe}", *(f"{one.clips_per_hour:,.0f}" for one in found)]
    cells += [" / ".join(str(shares[pool,]) for pool in ("text", "vae", "high", "low")), str(found[-1].checkers)]
    page = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
    row = f"| {' | '.join(cells)} |"
    assert row in page.read_text(encoding="utf-8"), f"put this row into the table of {page.name}:\n{row}"


def test_the_cluster_does_not_change_the_video():
    plan = plans.plan()
    shared = placement.plan(plan.times, (1, 1, 1), plans.CPU)
    assert plan.model_copy(update={"cluster": shared}).fingerprint() == plan.fingerprint()
