"""Predicted peaks: in proportion to what is computed, and a refusal that names stage, need and limit."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plans
from wan2_i2v import memory
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DoesNotFit
from wan2_i2v.geometry import latent_shape
from wan2_i2v.measured import Sample, Table

CARD = DeviceFacts("cuda:0", "Test card", 80 * 2**30, 128 * 2**30, "bfloat16")
A14B = plans.a14b()


def peaks_of(model=None, frames=73, height=480, width=720, device=plans.CPU) -> dict[str, memory.StagePeak]:
    shape = latent_shape(frames, height, width)
    return {peak.stage: peak for peak in memory.peaks(model or plans.row(), shape, frames, device, guided=False)}


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_bytes_of(dtype, size):
    assert memory.bytes_of(dtype) == size


def test_one_model_at_a_time():
    assert list(peaks_of()) == ["text", "image", "denoise high", "denoise low", "decode"]
    assert list(peaks_of(plans.row(boundary_ratio=None))) == ["text", "image", "denoise single", "decode"]


def test_weights_are_those_of_the_one_model_in_the_compute_dtype():
    """One bf16 expert of A14B: 14.3e9 × 2 bytes."""
    found = peaks_of(A14B, device=CARD)
    assert found["denoise high"].weights_gib == pytest.approx(26.6, abs=0.1)
    assert found["text"].weights_gib == pytest.approx(10.6, abs=0.1)


def test_a_peak_is_weights_plus_activations_plus_the_runtime_on_a_cpu():
    for device, runtime in ((CARD, 0.0), (plans.CPU, memory.RUNTIME_BYTES / memory.GIB)):
        for peak in peaks_of(device=device).values():
            assert peak.memory_gib == pytest.approx(peak.weights_gib + peak.activations_gib + runtime, abs=0.002)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 30))
def test_more_pixels_or_frames_never_need_less(height, width, chunks):
    roomy = dataclasses.replace(plans.CPU, ram_bytes=2**60)
    frames = 4 * chunks + 1
    small = peaks_of(None, frames, height * 16, width * 16, roomy)
    for bigger in ((frames + 4, height, width), (frames, height + 1, width), (frames, height, width + 1)):
        large = peaks_of(None, bigger[0], bigger[1] * 16, bigger[2] * 16, roomy)
        assert all(large[stage].memory_gib >= small[stage].memory_gib for stage in small)


def card(gib: int) -> DeviceFacts:
    return dataclasses.replace(CARD, vram_bytes=gib * memory.GIB, ram_bytes=32 * memory.GIB)


def test_what_does_not_fit_is_refused_with_stage_need_limit_and_what_would_fit():
    with pytest.raises(
        DoesNotFit, match=r"stage [a-z ]+ needs \d+\.\d GiB and Test card has 3\.4 GiB left beside the dri"
    ):
        peaks_of(A14B, 121, 720, 1280, card(4))
    with pytest.raises(DoesNotFit, match=r"Choose .* at this length"):
        peaks_of(A14B, 73, 720, 1280, card(5))


@pytest.mark.parametrize(("width", "height"), [(1920, 1088), (1088, 1920), (1440, 1440)])
def test_the_size_that_a_refusal_names_fits_and_is_near(width, height):
    with pytest.raises(DoesNotFit) as refused:
        peaks_of(A14B, 121, height, width, card(8))
    found = re.search(r"Choose (\d+) frames at this size or (\d+)×(\d+) at this length", str(refused.value))
    length, across, down = map(int, found.groups())
    peaks_of(A14B, length, height, width, card(8))
    peaks_of(A14B, 121, down, across, card(8))
    # 1280×720 has a plan on such a card, so nothing much smaller need be named.
    assert across * down > 0.95 * 1280 * 720
    assert abs(across / down - width / height) < 0.05


LINES = [(720, 720, 73), (720, 720, 121), (576, 576, 121), (1280, 720, 73), (1280, 720, 121), (832, 480, 121)]


@pytest.mark.parametrize("gib", [8, 12, 16, 24, 32, 48, 80])
@pytest.mark.parametrize(("width", "height", "frames"), LINES)
def test_every_size_has_a_plan_on_every_card_from_8_gb(gib, width, height, frames):
    found = peaks_of(A14B, frames, height, width, card(gib))
    assert all(peak.memory_gib <= gib - 0.6 for peak in found.values())


def test_1280x720_of_121_frames_needs_at_most_7_2_gib_when_streamed():
    found = peaks_of(A14B, 121, 720, 1280, card(8))
    assert {peak.residency for stage, peak in found.items() if stage.startswith("denoise")} == {"streamed"}
    assert max(peak.memory_gib for peak in found.values()) <= 7.2


def test_a_picture_that_is_too_large_for_the_vae_is_cut_in_the_fewest_strips_that_fit():
    roomy, small = (peaks_of(A14B, 73, 1536, 2048, plans.card(gib, 64)) for gib in (24, 16))
    assert (roomy["decode"].strips, small["decode"].strips) == (1, 2)
    assert small["decode"].memory_gib < min(15.4, roomy["decode"].memory_gib)
    with pytest.raises(DoesNotFit, match=r"frames at this size|at this length"):
        peaks_of(A14B, 121, 4096, 4096, plans.card(12, 64))


def test_a_roomy_card_keeps_the_whole_expert():
    assert peaks_of(A14B, device=CARD)["denoise high"].residency == "resident"


def test_what_is_refused_for_want_of_ram_says_so():
    little_ram = dataclasses.replace(CARD, ram_bytes=memory.GIB)
    with pytest.raises(
        DoesNotFit, match=r"stage [a-z ]+ needs \d\.\d GiB of RAM beside the card and there are 1\.0 GiB\."
    ):
        peaks_of(A14B, device=little_ram)
    with pytest.raises(DoesNotFit):
        peaks_of(device=dataclasses.replace(plans.CPU, ram_bytes=2**20))


def test_ram_on_a_cpu_is_the_peak_itself_and_beside_a_card_never_an_expert():
    assert all(peak.ram_gib == peak.memory_gib for peak in peaks_of().values())
    for gib in (8, 24, 80):
        assert all(1.5 <= peak.ram_gib < 8 for peak in peaks_of(A14B, 121, 720, 1280, card(gib)).values())


# ---- between all and nothing


def test_a_card_keeps_as_many_blocks_as_fit_and_streams_the_others():
    kept = [peaks_of(A14B, device=card(gib))["denoise high"] for gib in (8, 12, 16, 24)]
    assert all(
        peak.residency == "streamed" and peak.memory_gib <= gib - 0.6
        for peak, gib in zip(kept, (8, 12, 16, 24), strict=True)
    )
    blocks = [peak.resident_blocks for peak in kept]
    assert blocks == sorted(blocks) and 0 < blocks[0] < blocks[-1] < 40
    assert peaks_of(A14B, device=card(32))["denoise high"].resident_blocks == 40


def test_packed_experts_are_resident_where_floats_are_not():
    for stored, gib in (("fp8", 24), ("Q4_K_M", 16)):
        assert peaks_of(plans.a14b(stored), device=card(gib))["denoise low"].residency == "resident"
        assert peaks_of(A14B, device=card(gib))["denoise low"].residency == "streamed"


def test_blocks_stream_from_ram_where_what_streams_stays_there():
    wide = dataclasses.replace(card(8), ram_bytes=48 * memory.GIB)

    def origin(model=A14B, device=CARD) -> str | None:
        return peaks_of(model, 121, 720, 1280, device)["denoise high"].streams_from

    assert origin(plans.a14b("fp8"), card(8)) == "ram"
    assert origin(A14B, card(8)) == "disk"
    assert origin(A14B, wide) == origin(A14B, card(16)) == "ram"
    assert origin(A14B, CARD) is None


# ---- what was measured


def measured(predicted: float, peak: float) -> Table:
    sample = Sample(
        device=CARD.label, dtype="bfloat16", model="any", kind="denoise", residency="streamed", work=1, seconds=1,
        predicted_gib=predicted, peak_gib=peak,
    )  # fmt: skip
    return Table(samples=(sample,))


def test_measured_peaks_raise_predictions_of_their_kind_and_never_lower_them():
    shape, plain = latent_shape(73, 480, 720), peaks_of(A14B, device=CARD)

    def found(table: Table) -> dict[str, memory.StagePeak]:
        result = memory.peaks(A14B, shape, 73, CARD, guided=False, table=table)
        return {peak.stage: peak for peak in result}

    raised = found(measured(10, 11))
    assert raised["denoise high"].memory_gib == pytest.approx(1.1 * plain["denoise high"].memory_gib, abs=0.002)
    assert raised["denoise high"].weights_gib == plain["denoise high"].weights_gib
    assert raised["decode"] == plain["decode"]
    assert found(measured(10, 9)) == plain


def test_a_corrected_plan_stays_within_the_card():
    for gib in (8, 24):
        device = card(gib)
        result = memory.peaks(A14B, latent_shape(73, 480, 720), 73, device, guided=False, table=measured(10, 12))
        assert all(peak.memory_gib <= gib - 0.6 for peak in result)


# ---- the knowledge base's lists

SIZES = {
    "safe": ((576, 576), (720, 480), (480, 720), (720, 720)),
    "risky": ((1024, 576), (1024, 720), (1280, 720), (720, 1280), (480, 832), (736, 736), (960, 960), (1280, 768)),
}
CLIPS = [(size, length) for sizes in SIZES.values() for size in sizes for length in (72, 96, 120)]


@pytest.mark.parametrize("stored", sorted(plans.A14B_PACKED))
@pytest.mark.parametrize(("size", "length"), CLIPS, ids=lambda value: str(value))
def test_every_line_of_the_knowledge_base_has_a_plan_on_24_gb(stored, size, length):
    """With a negative prompt, as the knowledge base has everywhere."""
    asked = {"width": size[0], "height": size[1], "num_frames": length, "negative_prompt": "talking"}
    plan = plans.plan(plans.a14b(stored), device=plans.card(24, 32), **asked)
    assert all(peak.memory_gib <= 23.4 and peak.ram_gib <= 32 for peak in plan.peaks)


@pytest.mark.parametrize("stored", sorted(plans.A14B_PACKED))
def test_1280x720_of_121_frames_has_a_plan_on_8_gb_with_32_gb_of_ram(stored):
    asked = {"width": 1280, "height": 720, "num_frames": 121, "negative_prompt": "talking"}
    plan = plans.plan(plans.a14b(stored), device=plans.card(8, 32), **asked)
    assert all(peak.memory_gib <= 7.4 and peak.ram_gib <= 32 for peak in plan.peaks)
