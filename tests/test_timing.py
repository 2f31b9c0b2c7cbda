"""Times: measured where it was measured, else an estimate that says so and stands on published figures."""

from __future__ import annotations

import pytest

import plans
from wan2_i2v import cards, timing
from wan2_i2v.devices import Machine
from wan2_i2v.measured import Sample, Table
from wan2_i2v.memory import GIB

KINDS = {"text": "text", "image": "image", "denoise high": "denoise", "denoise low": "denoise", "decode": "decode"}


def times(model=None, device=None, table=None, **request):
    """Times by stage."""
    fields = {"width": 720, "height": 720} | request
    plan = plans.plan(model or plans.a14b(), device=device or plans.card(24), table=table or Table(), **fields)
    return {time.stage: time for time in plan.times}


def test_without_measurements_everything_is_an_estimate_like_a_known_card():
    found = times()
    assert list(found) == [*KINDS, "verify"]
    assert {time.basis for time in found.values()} == {"estimate"}
    assert {found[stage].like for stage in KINDS} == {"RTX 3090"}
    assert timing.total(tuple(found.values()))[1] == "estimate"


def test_a_rate_that_was_measured_is_used():
    device, before = plans.card(24), times()
    rows = tuple(
        Sample(device=device.label, dtype="bfloat16", model="a14b-bf16", kind=kind, residency=residency,
               work=1e12, seconds=2.0)
        for kind in ("text", "image", "denoise", "decode", "verify") for residency in ("resident", "streamed")
    )  # fmt: skip
    found = times(table=Table(samples=rows))
    assert {time.basis for time in found.values()} == {"measured"}
    for stage, time in found.items():
        assert time.work == before[stage].work
        assert time.seconds == pytest.approx(2e-12 * time.work)
    assert timing.total(tuple(found.values()))[1] == "measured"


def test_cfg_doubles_the_steps_that_have_it_and_nag_adds_little():
    # Without the mouth's own negative prompt, which would turn NAG on in all of them.
    plain, guided = times(allow_speech=True), times(guidance_scale_high=3.5, allow_speech=True)
    assert guided["denoise high"].work == pytest.approx(2 * plain["denoise high"].work)
    assert guided["denoise low"].work == plain["denoise low"].work
    nag = times(negative_prompt="talking", allow_speech=True)
    assert 1 < nag["denoise high"].work / plain["denoise high"].work < 1.05
    assert nag["text"].work == pytest.approx(2 * plain["text"].work)


def test_an_expert_without_steps_takes_no_time():
    idle = times(boundary_ratio=0.0)["denoise low"]
    assert (idle.work, idle.seconds, idle.loading_s) == (0, 0, 0)


def test_streaming_from_the_disk_can_take_longer_than_computing():
    small = {"width": 256, "height": 256, "num_frames": 5}
    disk, ram = (times(device=plans.card(8, ram), **small)["denoise high"] for ram in (16, 64))
    whole = times(device=plans.card(80, 128), **small)["denoise high"]
    assert disk.seconds > 3 * ram.seconds > 3 * whole.seconds
    assert disk.work == ram.work == whole.work


def test_work_grows_faster_than_tokens():
    short, long = (times(num_frames=length)["denoise high"].work for length in (73, 145))
    assert long > 2 * short


@pytest.mark.parametrize(
    ("label", "name"),
    [("NVIDIA GeForce RTX 4090", "RTX 4090"), ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti"), ("NVIDIA L40S", "L40S"),
     ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA GeForce RTX 3070 Laptop GPU", "RTX 3070")],
)  # fmt: skip
def test_cards_are_known_by_the_drivers_name(label, name):
    card = cards.like(plans.card(24, label=label))
    assert card is not None and card.name == name


@pytest.mark.parametrize(
    ("gb", "name"), [(6, "RTX 4060"), (8, "RTX 4060"), (11, "RTX 3060"), (24, "RTX 3090"), (141, "A100")]
)
def test_another_card_is_like_the_one_of_its_memory(gb, name):
    card = cards.like(plans.card(gb, label="Unheard-of"))
    assert card is not None and card.name == name


def test_a_cpu_is_no_card_and_its_estimate_names_itself():
    assert cards.like(plans.CPU) is None
    assert times(plans.row(), plans.CPU)["decode"].like == "CPU"


def test_another_machine_has_the_card_and_the_ram_that_are_given():
    here, other = Machine().device("cpu"), Machine(24, 64).device()
    assert (other.vram_bytes, other.ram_bytes, other.dtype) == (24 * GIB, 64 * GIB, "bfloat16")
    assert other.label == "a card of 24 GB"
    assert Machine(vram_gb=8).device().ram_bytes == here.ram_bytes
    only_ram = Machine(ram_gb=4).device("cpu")
    assert (only_ram.name, only_ram.ram_bytes) == ("cpu", 4 * GIB)
