"""Each rung is leaner than the one before, and the ladder ends."""

from __future__ import annotations

import pytest

from wan2_i2v import ladder
from wan2_i2v.memory import StagePeak


def peak(stage: str, **changes) -> StagePeak:
    return StagePeak(stage=stage, weights_gib=1, activations_gib=1, memory_gib=2, **changes)


def rungs(first: StagePeak, *, is_cuda: bool) -> list[StagePeak]:
    found = [first]
    while (following := ladder.leaner(found[-1], is_cuda=is_cuda)) is not None:
        found.append(following)
        assert len(found) < 20
    return found


def test_an_expert_on_a_card_computes_less_at_once_then_lets_its_blocks_go():
    found = rungs(peak("denoise high", chunk_tokens=4096, head_groups=4, resident_blocks=40), is_cuda=True)
    assert [(rung.residency, rung.chunk_tokens, rung.head_groups, rung.resident_blocks) for rung in found] == [
        ("resident", 4096, 4, 40),
        ("resident", 2048, 8, 40),
        ("resident", 512, 40, 40),
        ("streamed", 512, 40, 20),
        ("streamed", 512, 40, 0),
    ]


def test_on_a_cpu_portions_of_tokens_stay_so_that_bits_do():
    found = rungs(peak("denoise low", chunk_tokens=1024, head_groups=4, resident_blocks=2), is_cuda=False)
    assert {rung.chunk_tokens for rung in found} == {1024}
    assert found[-1].residency == "streamed"


@pytest.mark.parametrize(("stage", "last"), [("text", "streamed"), ("decode", 8), ("image", 8)])
def test_other_stages_have_their_own_ways(stage, last):
    end = rungs(peak(stage), is_cuda=True)[-1]
    assert last in (end.residency, end.strips)


def test_every_rung_reads_differently():
    for stage, changes in (
        ("denoise high", {"chunk_tokens": 4096, "head_groups": 4, "resident_blocks": 8}),
        ("image", {}),
    ):
        told = [ladder.describe(rung) for rung in rungs(peak(stage, **changes), is_cuda=True)]
        assert len(set(told)) == len(told)
