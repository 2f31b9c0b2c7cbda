"""What fits which card: plans of many sizes and lengths, for `wan2-i2v plan --table` and docs/memory.md. A leaf.

Comes in: a request whose size and length are replaced, a model row, the RAM beside each card. Goes out: `Line`s of
`Cell`s, every one of them a whole plan's answer, and their words.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from wan2_i2v import cards, timing
from wan2_i2v.devices import Machine
from wan2_i2v.errors import DoesNotFit
from wan2_i2v.measured import Table
from wan2_i2v.memory import NOTHING_MEASURED, StagePeak
from wan2_i2v.plan import ImageFacts, JobPlan, LoraPlan, plan_job
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow

SIZES = ((576, 576), (720, 480), (832, 480), (720, 720), (1024, 576), (1024, 720), (1280, 720))
"""The knowledge base's safe and risky sizes and those that the model was trained at; lying ones stand for upright ones."""

LENGTHS = (72, 96, 120)
"""The knowledge base's 3, 4 and 5 seconds at 24 frames per second."""

CARDS = (8, 12, 16, 24, 32, 48, 80)
RAM_GB = 32.0


class Cell(BaseModel):
    """One size and length on one card: the heaviest stage's peak and how experts are held; None where nothing fits."""

    model_config = ConfigDict(frozen=True)

    vram_gb: float
    peak_gib: float | None = None
    ram_gib: float | None = None
    held: str = ""
    seconds: float | None = None
    basis: timing.Basis = "estimate"
    why_not: str = ""

    @property
    def text(self) -> str:
        """`streamed 12/40, 22.1, ~14 min`."""
        if self.peak_gib is None or self.seconds is None:
            return "no"
        about = "~" if self.basis == "estimate" else ""
        return f"{self.held}, {self.peak_gib:.1f}, {about}{duration(self.seconds)}"


class Line(BaseModel):
    """One size and length on all cards."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
    num_frames: int
    cells: tuple[Cell, ...]


def grid(
    request: GenerateRequest,
    model: ModelRow,
    loras: Sequence[LoraPlan] = (),
    *,
    vram: Sequence[float] = CARDS,
    ram_gb: float = RAM_GB,
    table: Table = NOTHING_MEASURED,
) -> tuple[Line, ...]:
    """Every size and length on every card."""
    lines = []
    for (width, height), length in ((size, length) for size in SIZES for length in LENGTHS):
        asked = request.replaced(width=width, height=height, num_frames=length)
        cells = tuple(_cell(asked, model, loras, Machine(gb, ram_gb), table) for gb in vram)
        lines.append(Line(width=width, height=height, num_frames=length, cells=cells))
    return tuple(lines)


def heading(vram_gb: float) -> str:
    """`24 GB` with the card whose figures stand for it."""
    card = cards.like(Machine(vram_gb, RAM_GB).device())
    return f"{vram_gb:g} GB" + (f" ({card.name})" if card else "")


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `1.5 h`: two figures are all that an estimate is worth."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def held(peak: StagePeak, layers: int) -> str:
    """How an expert's weights are held, in a word or two."""
    if peak.residency == "resident":
        return "resident"
    kept = f" {layers - peak.resident_blocks}/{layers}" if peak.resident_blocks else ""
    return f"streamed{kept}" + (" from disk" if peak.streams_from == "disk" else "")


def _cell(request: GenerateRequest, model: ModelRow, loras: Sequence[LoraPlan], machine: Machine, table: Table) -> Cell:
    assert machine.vram_gb is not None
    try:
        plan = plan_job(request, _picture(request), model, machine.device(), 0, loras, table=table)
    except DoesNotFit as error:
        return Cell(vram_gb=machine.vram_gb, why_not=str(error))
    seconds, basis = timing.total(plan.times)
    return Cell(
        vram_gb=machine.vram_gb,
        peak_gib=max(peak.memory_gib for peak in plan.peaks),
        ram_gib=max(peak.ram_gib for peak in plan.peaks),
        held=held(_expert(plan), model.num_layers),
        seconds=round(seconds, 1),
        basis=basis,
    )


def _expert(plan: JobPlan) -> StagePeak:
    return next(peak for peak in plan.peaks if peak.kind == "denoise")


def _picture(request: GenerateRequest) -> ImageFacts:
    """A picture of the clip's size."""
    return ImageFacts(
        path="picture.png",
        sha256="",
        width=request.width or 1,
        height=request.height or 1,
        mode="RGB",
        format="PNG",
        has_alpha=False,
        animated_frames=1,
        rotated=False,
    )
