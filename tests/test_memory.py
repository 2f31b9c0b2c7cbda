"""Predicted peaks: in proportion to what is computed, and a refusal that names stage, need and limit."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plans
from wan2_i2v import memory
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DoesNotFit
from wan2_i2v.geometry import latent_shape

CARD = DeviceFacts("cuda:0", "Test card", 80 * 2**30, 128 * 2**30, "bfloat16")
A14B = plans.row(
    expert_parameters=14_300_000_000, text_parameters=5_700_000_000, vae_parameters=127_000_000,
    dim=5120, ffn_dim=13824, num_layers=40, vae_base_dim=96, vae_patch=1,
)  # fmt: skip


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
    with pytest.raises(DoesNotFit, match=r"Choose 720×480 at this length\.|Choose .* at this length"):
        peaks_of(A14B, 73, 720, 1280, card(5))


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


def test_a_roomy_card_keeps_the_whole_expert():
    assert peaks_of(A14B, device=CARD)["denoise high"].residency == "resident"


def test_the_cards_limit_is_its_vram_and_the_cpus_its_ram():
    little_ram = dataclasses.replace(CARD, ram_bytes=2**20)
    assert peaks_of(device=little_ram)
    with pytest.raises(DoesNotFit):
        peaks_of(device=dataclasses.replace(plans.CPU, ram_bytes=2**20))
