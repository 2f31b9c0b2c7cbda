"""What fits which card: every cell is a whole plan's answer."""

from __future__ import annotations

import pytest

import plans
from wan2_i2v import grid
from wan2_i2v.plan import LoraPlan
from wan2_i2v.request import GenerateRequest

ASKED = GenerateRequest(image="picture.png", recipe="lightx2v", negative_prompt="talking")


def test_every_size_and_length_fits_every_card():
    lines = grid.grid(ASKED, plans.a14b("fp8"))
    assert [(line.width, line.height) for line in lines[::3]] == list(grid.SIZES)
    assert {line.num_frames for line in lines} == set(grid.LENGTHS)
    for line in lines:
        assert [cell.vram_gb for cell in line.cells] == list(grid.CARDS)
        for cell in line.cells:
            assert cell.peak_gib is not None and cell.peak_gib <= cell.vram_gb - 0.6
            assert cell.ram_gib is not None and cell.ram_gib <= 32
            assert cell.text.startswith(("resident, ", "streamed")) and "~" in cell.text


def test_a_cell_says_what_the_plan_says():
    line = grid.grid(ASKED, plans.a14b(), vram=(24,), ram_gb=64)[-1]
    plan = plans.plan(
        plans.a14b(), device=plans.card(24, 64), width=1280, height=720, num_frames=120, recipe="lightx2v",
        negative_prompt="talking",
    )  # fmt: skip
    (cell,) = line.cells
    assert cell.peak_gib == max(peak.memory_gib for peak in plan.peaks)
    expert = next(peak for peak in plan.peaks if peak.stage == "denoise high")
    assert cell.held == f"streamed {40 - expert.resident_blocks}/40"


def test_loras_take_their_room():
    lora = LoraPlan(
        expert="high", path="a", fingerprint="", strength=1, matched=1, unmatched=0, bytes=2**30, about="a test"
    )
    bare, with_lora = (
        grid.grid(ASKED, plans.a14b("fp8"), loras, vram=(24,))[-1].cells[0].peak_gib for loras in ((), (lora,))
    )
    assert bare is not None and with_lora is not None and with_lora >= bare + 0.99


def test_what_does_not_fit_says_why():
    cells = [line.cells[0] for line in grid.grid(ASKED, plans.a14b(), vram=(5,))]
    refused = [cell for cell in cells if cell.peak_gib is None]
    assert refused and all(cell.text == "no" and "needs" in cell.why_not for cell in refused)
    assert len(refused) < len(cells)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (5400, "1.5 h"), (90_000, "25.0 h")],
)
def test_durations(seconds, text):
    assert grid.duration(seconds) == text


def test_headings_name_the_card_that_stands_for_others():
    assert grid.heading(24) == "24 GB (RTX 3090)"
