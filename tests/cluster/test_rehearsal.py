"""Batches played through beforehand: by hand for small ones, and never sooner than any group could be for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v import placement
from wan2_i2v.cluster import rehearsal
from wan2_i2v.placement import Group
from wan2_i2v.timing import StageTime

SECONDS = {"text": 1.0, "image": 1.0, "denoise high": 6.0, "denoise low": 6.0, "decode": 2.0, "verify": 1.0}
LOADING = 3.0
ALL = ("text", "vae", "high", "low")


def clip(left=tuple(SECONDS), loading=LOADING, seconds=SECONDS):
    return [
        StageTime(
            stage=name, work=1, seconds=seconds[name], loading_s=0 if name == "verify" else loading, basis="measured"
        )
        for name in left
    ]


def ways(cards):
    """Every way that pools can be put together, each further card with the first group."""
    work = placement.loads(clip())
    for groups in placement._partitions([load for load in work if load.pool != "verify"]):
        if len(groups) <= cards:
            yield [
                Group(pools=tuple(load.pool for load in group), cards=cards - len(groups) + 1 if not index else 1)
                for index, group in enumerate(groups)
            ]


def test_one_clip_on_one_card_takes_all_its_stages_and_five_loads():
    # The VAE is opened for the picture, and again for the frames.
    assert rehearsal.makespan([clip()], [Group(pools=ALL, cards=1)], 1) == sum(SECONDS.values()) + 5 * LOADING


def test_a_card_takes_all_clips_through_one_pool_before_the_next():
    alone = rehearsal.makespan([clip()], [Group(pools=ALL, cards=1)], 1)
    ten = rehearsal.makespan([clip()] * 10, [Group(pools=ALL, cards=1)], 1)
    # Verify looks at nine of the ten while the tenth is decoded.
    assert ten == alone + 9 * (sum(SECONDS.values()) - SECONDS["verify"])


def test_the_experts_cards_wait_for_the_first_picture_and_the_decoder_for_the_last_step():
    groups = [Group(pools=("text", "vae"), cards=1), Group(pools=("high", "low"), cards=3)]
    before = 12 * SECONDS["text"] + LOADING + LOADING + SECONDS["image"]
    experts = 12 * 12 / 3 + 2 * LOADING
    after = SECONDS["decode"] + SECONDS["verify"]
    found = rehearsal.makespan([clip()] * 12, groups, 1)
    assert before + experts + after <= found <= before + experts + after + 3 * SECONDS["decode"]


def test_cards_of_a_small_batch_do_not_wait_for_each_other_as_those_of_many_clips_may():
    batch = [clip()] * 12
    assert rehearsal.makespan(batch, rehearsal.place(batch, 4, 1), 1) < rehearsal.makespan(
        batch, placement.place(placement.loads(time for one in batch for time in one), 4), 1
    )


def test_what_is_left_of_a_batch_is_rehearsed_from_there():
    left = [clip(("denoise low", "decode", "verify")), clip(("decode", "verify"))]
    # The low expert for the first one, then both are decoded, then the last one is looked at.
    assert rehearsal.makespan(left, [Group(pools=ALL, cards=1)], 1) == pytest.approx((3 + 6) + (3 + 2 + 2) + 1)
    assert {pool for group in rehearsal.place(left, 2, 1) for pool in group.pools} == {"low", "vae"}


def test_without_processors_nobody_waits_for_the_look_at_the_file():
    assert rehearsal.makespan([clip()], [Group(pools=ALL, cards=1)], 0) == sum(SECONDS.values()) - 1 + 5 * LOADING


def test_nothing_takes_no_time_and_no_card():
    assert rehearsal.makespan([], [], 1) == 0.0 and rehearsal.place([], 3, 1) == ()


@given(
    cards=st.integers(1, 6),
    count=st.integers(1, 9),
    loading=st.floats(0, 20),
    seconds=st.fixed_dictionaries({name: st.floats(0.01, 60) for name in SECONDS}),
)
def test_no_way_ends_before_its_slowest_group_could(cards, count, loading, seconds):
    batch = [clip(loading=loading, seconds=seconds)] * count
    work = placement.loads(time for one in batch for time in one)
    for groups in ways(cards):
        found = rehearsal.makespan(batch, groups, 1)
        busy = max(sum(load.seconds for load in work if load.pool in group.pools) / group.cards for group in groups)
        alone = sum(seconds[name] for name in SECONDS if name != "text")
        assert found >= max(busy, alone) * (1 - 1e-9)


@given(cards=st.integers(1, 6), count=st.integers(1, 9), loading=st.floats(0, 20))
def test_no_rehearsed_way_is_much_faster_than_the_one_taken(cards, count, loading):
    batch = [clip(loading=loading)] * count
    taken = rehearsal.makespan(batch, rehearsal.place(batch, cards, 1), 1)
    single = rehearsal.makespan(batch, [Group(pools=ALL, cards=cards)], 1)
    assert taken <= single * placement.NEARLY + 1e-9
