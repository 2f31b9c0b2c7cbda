"""How long each stage takes: from measured runs on this device, else a roofline, labelled as an estimate. A leaf.

Comes in: a model row, the shape, how each expert is called, the memory plan, the device and the table of measured runs.
Goes out: one `StageTime` per stage. The roofline: FLOPs over an assumed share of the vendor's figure, or, where blocks
are streamed, the bytes of one call over the link or the disk, whichever takes longer, since the next block is fetched
while one computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from wan2_i2v import cards, memory, work
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.geometry import LatentShape
from wan2_i2v.measured import Kind, Table
from wan2_i2v.memory import StagePeak
from wan2_i2v.rows import ModelRow

Basis = Literal["measured", "estimate"]

ATTAINED: dict[Kind, float] = {"text": 0.5, "image": 0.25, "denoise": 0.5, "decode": 0.25, "verify": 1.0}
"""Assumed share of the vendor's matrix rate: long matrix products reach about half of it, thin convolutions less."""

LINK_SHARE = 0.7
"""Of the theoretical PCIe rate, from pinned memory: an assumption."""

VERIFY_PIXELS = 6e6
"""Pixels of the clip looked at per second by one core; measured on a 2-core machine, so elsewhere an estimate."""


class StageTime(BaseModel):
    """`work` in FLOPs (pixels for verify); `seconds` of computing, `loading_s` of bringing the model: always estimated.

    `like` names the device whose published figures an estimate stands on.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    work: float
    seconds: float
    loading_s: float
    basis: Basis
    like: str = ""


@dataclass(frozen=True)
class Calls:
    """How often a stage calls its expert, and how many of these calls attend to a second text (NAG)."""

    forwards: int
    nag: int = 0


@dataclass(frozen=True)
class Clip:
    """What is made: latent shape, pixels of all frames, texts to encode, calls of each expert."""

    shape: LatentShape
    pixels: int
    texts: int
    calls: Mapping[str, Calls]


def denoise_work(model: ModelRow, shape: LatentShape, calls: Calls) -> float:
    """FLOPs of one expert's steps."""
    tokens = shape.tokens
    return calls.forwards * work.forward(model, tokens) + calls.nag * model.num_layers * work.cross(model, tokens)


def nag_cost(model: ModelRow, shape: LatentShape) -> float:
    """By how much of its FLOPs NAG makes a call of an expert longer."""
    return model.num_layers * work.cross(model, shape.tokens) / work.forward(model, shape.tokens)


def times(
    model: ModelRow, clip: Clip, peaks: Sequence[StagePeak], device: DeviceFacts, table: Table
) -> tuple[StageTime, ...]:
    """The time of every stage that takes long, in order."""
    found = [_time(peak, _work(model, clip, peak), model, clip, (device, table)) for peak in peaks]
    return (*found, _verify(model, clip, device, table))


def total(stages: Sequence[StageTime]) -> tuple[float, Basis]:
    """Seconds of all stages with loading; an estimate unless all were measured."""
    basis: Basis = "measured" if all(stage.basis == "measured" for stage in stages) else "estimate"
    return sum(stage.seconds + stage.loading_s for stage in stages), basis


def _work(model: ModelRow, clip: Clip, peak: StagePeak) -> float:
    vae = memory.vae_of(model, 2)
    match peak.kind:
        case "text":
            return work.text(model, clip.texts)
        case "image":
            return work.encode(vae, clip.shape) * vae.repeated(clip.shape, peak.strips, vae.encoder_margin)
        case "decode":
            return work.decode(vae, clip.shape) * vae.repeated(clip.shape, peak.strips, vae.decoder_margin)
        case _:
            return denoise_work(model, clip.shape, clip.calls.get(peak.stage, Calls(0)))


def _time(peak: StagePeak, amount: float, model: ModelRow, clip: Clip, where: tuple[DeviceFacts, Table]) -> StageTime:
    device, table = where
    stored = memory.stored_bytes(model, peak.kind)
    rate = table.seconds_per_work(device.label, device.dtype, model.name, peak.kind, peak.residency)
    loading = stored / cards.DISK_BYTES if amount else 0.0
    if rate is not None:
        return StageTime(stage=peak.stage, work=amount, seconds=amount * rate, loading_s=loading, basis="measured")
    card = cards.like(device)
    seconds = amount / (_flops(device) * ATTAINED[peak.kind])
    if peak.kind == "denoise" and peak.residency == "streamed" and card is not None:
        share = 1 - peak.resident_blocks / model.num_layers
        link = cards.DISK_BYTES if peak.streams_from == "disk" else card.link * 1e9 * LINK_SHARE
        seconds = max(seconds, clip.calls.get(peak.stage, Calls(0)).forwards * share * stored / link)
    return StageTime(
        stage=peak.stage,
        work=amount,
        seconds=seconds,
        loading_s=loading,
        basis="estimate",
        like=card.name if card else device.label,
    )


def _flops(device: DeviceFacts) -> float:
    """The vendor's matrix rate of a card; for a CPU an assumed rate per core."""
    card = cards.like(device)
    if card is not None:
        return card.tera * 1e12
    return cards.CPU_FLOPS_PER_CORE * device.cores / ATTAINED["denoise"]


def _verify(model: ModelRow, clip: Clip, device: DeviceFacts, table: Table) -> StageTime:
    """The finished file is decoded and looked at on the CPU."""
    rate = table.seconds_per_work(device.label, device.dtype, model.name, "verify", "resident")
    seconds = clip.pixels / VERIFY_PIXELS if rate is None else clip.pixels * rate
    basis: Basis = "estimate" if rate is None else "measured"
    return StageTime(stage="verify", work=float(clip.pixels), seconds=seconds, loading_s=0.0, basis=basis)
