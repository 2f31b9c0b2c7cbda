"""The memory plan: for every stage, how its weights are held and how much is computed at once. A leaf without torch.

Comes in: a model row, a latent shape, a device. Goes out: one `StagePeak` per stage with the least sparing choice that
fits the card's memory and the machine's RAM, or DoesNotFit naming the nearest size and length that do. Activations come
from `footprint`; weights are parameters × bytes of the compute dtype: all of a stage's model when resident (fp8 and GGUF
as stored); when streamed everything outside the blocks, two blocks and those that stay, and one weight on its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DoesNotFit
from wan2_i2v.footprint import FLOAT, TEXT_TOKENS, Transformer, Vae
from wan2_i2v.geometry import VAE_SCALE_TEMPORAL, LatentShape, latent_shape
from wan2_i2v.measured import Kind, Table
from wan2_i2v.rows import ModelRow

GIB = 2**30
RUNTIME_BYTES = int(0.6 * GIB)
"""Python, torch and libraries in RAM; measured on a CPU build of torch 2.13."""

CONTEXT_BYTES = int(0.6 * GIB)
"""What a card's driver and torch's CUDA context take of its memory. An estimate: never measured on a card here."""

HOST_BYTES = int(1.5 * GIB)
"""Python, torch and its CUDA libraries in RAM when a card is used. An estimate: never measured on a card here."""

ENCODER_BYTES = int(0.3 * GIB)
"""Frames on their way into the video file: the encoder looks some fifty frames ahead."""

SPARE = 0.05
"""Share of a card that is left free when blocks are kept beside those that stream, against fragmentation."""

SYSTEM_BYTES = 2 * GIB
"""What the operating system and other programs take of the RAM that could hold a file. An assumption."""

NOTHING_MEASURED = Table()

MARGIN, VAE_MARGIN = 1.03, 1.02
"""Over the traced peaks of experts and VAE, so that no prediction is below: `benchmarks/memory.py`."""

STORED = 2
"""Bytes of a weight in a file of bf16 or fp16, and the most that one takes on its way from any file but float32."""

UMT5_XXL = {"text_dim": 4096, "vocabulary": 256_384, "layers": 24}

Residency = Literal["resident", "streamed"]
Origin = Literal["ram", "disk"]


class StagePeak(BaseModel):
    """Predicted peak of one stage. `memory_gib` is in VRAM on a card and in RAM on a CPU; `ram_gib` in RAM on both.

    RAM is the process's own, without pages of mapped files, which the operating system gives up when it needs them.
    `residency`: all weights in the device's memory, or block by block from the file; `streams_from` RAM when the rest of
    the RAM holds what streams, so that it is read once, else from the disk at every step. `chunk_tokens` and
    `head_groups` say in which portions the transformer computes; 0 for other stages. `resident_blocks` of the transformer
    stay in memory: all when resident, some or none when streamed. The VAE works on the picture in `strips`, one after the
    other.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    weights_gib: float
    activations_gib: float
    memory_gib: float
    ram_gib: float = 0.0
    residency: Residency = "resident"
    streams_from: Origin | None = None
    chunk_tokens: int = 0
    head_groups: int = 0
    resident_blocks: int = 0
    strips: int = 1

    @property
    def kind(self) -> Kind:
        """The stage without the expert's name."""
        kinds: dict[str, Kind] = {"text": "text", "image": "image", "decode": "decode"}
        return kinds.get(self.stage, "denoise")


class Choice(BaseModel):
    """One way to run the transformer. `resident_blocks` stay in memory beside those that stream."""

    model_config = ConfigDict(frozen=True)

    residency: Residency
    chunk_tokens: int
    head_groups: int
    resident_blocks: int = 0


CHOICES = tuple(
    Choice(residency=residency, chunk_tokens=tokens, head_groups=groups)
    for residency in ("resident", "streamed")
    for tokens, groups in ((4096, 4), (2048, 8), (512, 40))
)
"""From fast to sparing, for cards."""

STRIPS = (1, 2, 4, 8)
"""Into how many parts the VAE's picture may be cut."""

CPU_CHOICES = tuple(choice.model_copy(update={"chunk_tokens": 1024}) for choice in CHOICES)
"""On a CPU a chunk of a small model stays in the processor's cache."""


def bytes_of(dtype: str) -> int:
    """Bytes of one element of a torch dtype name."""
    return {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]


def peaks(
    model: ModelRow,
    shape: LatentShape,
    frames: int,
    device: DeviceFacts,
    *,
    guided: bool,
    table: Table = NOTHING_MEASURED,
) -> tuple[StagePeak, ...]:
    """Predicted peak of every stage that loads weights, corrected by the peaks that `table` says were above.

    Raises DoesNotFit when a stage exceeds the device's memory or the RAM in every way to run it, naming the stage and the
    nearest size and length that fit.
    """
    room = Room(device, table)
    result = _stages(model, shape, room, 1 + guided)
    if any(not room.fits(peak) for peak in result):
        raise DoesNotFit(f"{_too_much(result, room)} {_nearest(model, shape, frames, room, guided)}")
    return result


@dataclass(frozen=True)
class Room:
    """What a device has, and what was measured on it."""

    device: DeviceFacts
    table: Table = NOTHING_MEASURED

    @property
    def bytes(self) -> int:
        """Memory that a stage may fill: a card's without the driver's part, or RAM."""
        return self.device.vram_bytes - CONTEXT_BYTES if self.device.is_cuda else self.device.ram_bytes

    def fits(self, peak: StagePeak) -> bool:
        return peak.memory_gib * GIB <= self.bytes and peak.ram_gib * GIB <= self.device.ram_bytes

    def corrected(self, peak: StagePeak) -> StagePeak:
        """The prediction, raised by as much as measured peaks of this kind were above it on this device."""
        growth = self.table.growth(self.device.label, self.device.dtype, peak.kind)
        if growth == 1:
            return peak
        more = peak.memory_gib * (growth - 1)
        raised = {"activations_gib": peak.activations_gib + more, "memory_gib": peak.memory_gib + more}
        if not self.device.is_cuda:
            raised["ram_gib"] = peak.ram_gib + more
        return peak.model_copy(update={name: round(value, 3) for name, value in raised.items()})


def _too_much(result: tuple[StagePeak, ...], room: Room) -> str:
    """Which stage needs more than there is of what."""
    device = room.device
    worst = max(result, key=lambda peak: peak.memory_gib)
    if worst.memory_gib * GIB > room.bytes:
        beside = " left beside the driver" if device.is_cuda else ""
        return (
            f"stage {worst.stage} needs {worst.memory_gib:.1f} GiB and {device.label} has "
            f"{room.bytes / GIB:.1f} GiB{beside}."
        )
    worst = max(result, key=lambda peak: peak.ram_gib)
    return (
        f"stage {worst.stage} needs {worst.ram_gib:.1f} GiB of RAM beside the card and there are "
        f"{device.ram_bytes / GIB:.1f} GiB."
    )


def _stages(model: ModelRow, shape: LatentShape, room: Room, texts: int) -> tuple[StagePeak, ...]:
    device = room.device
    found = (
        _text(model, room),
        _vae("image", model, shape, room),
        *(_denoise(f"denoise {expert}", model, shape, room, texts) for expert in model.experts),
        _vae("decode", model, shape, room),
    )
    return tuple(_with_ram(peak, found[0], model, shape, device) for peak in found)


def vae_of(model: ModelRow, element: int) -> Vae:
    """The VAE's dimensions."""
    return Vae(model.vae_base_dim, model.vae_levels, model.vae_temporal, model.vae_blocks, model.vae_patch, element)


def _vae(stage: str, model: ModelRow, shape: LatentShape, room: Room) -> StagePeak:
    """The picture whole where that fits, else in the fewest strips that fit, or the most."""
    size = bytes_of(room.device.dtype)
    for strips in STRIPS:
        activations = vae_activations(vae_of(model, size), stage, shape, strips) * VAE_MARGIN
        peak = room.corrected(_peak(stage, vae_parameters(model, stage) * size, activations, room.device))
        if peak.memory_gib * GIB <= room.bytes:
            break
    return peak.model_copy(update={"strips": strips})


def vae_parameters(model: ModelRow, stage: str) -> int:
    """Weights of the half of the VAE that the stage `image` or `decode` loads."""
    encoder = vae_of(model, 1).encoder_parameters
    return encoder if stage == "image" else model.vae_parameters - encoder


def vae_activations(vae: Vae, stage: str, shape: LatentShape, strips: int) -> int:
    """Bytes of the stage `image` or `decode` beside the VAE's weights."""
    whole, cut = (
        (vae.encode_peak, vae.encode_strips_peak) if stage == "image" else (vae.decode_peak, vae.decode_strips_peak)
    )
    return whole(shape) if strips == 1 else cut(shape, strips)


def _denoise(stage: str, model: ModelRow, shape: LatentShape, room: Room, texts: int) -> StagePeak:
    """The first choice that fits, or the last; streamed on a card with as many blocks kept there as fit too."""
    device = room.device
    for choice in CHOICES if device.is_cuda else CPU_CHOICES:
        peak = room.corrected(denoise_peak(stage, model, shape, device, texts, choice))
        if peak.memory_gib * GIB <= room.bytes:
            break
    if choice.residency == "resident" or not device.is_cuda:
        return peak
    free = room.bytes * (1 - SPARE) - peak.memory_gib * GIB
    growth = room.table.growth(device.label, device.dtype, "denoise")
    kept = int(free / (block_bytes(model, bytes_of(device.dtype)) * growth))
    if kept <= 0:
        return peak
    kept = min(kept, model.num_layers)
    return room.corrected(
        denoise_peak(stage, model, shape, device, texts, choice.model_copy(update={"resident_blocks": kept}))
    )


def denoise_peak(
    stage: str, model: ModelRow, shape: LatentShape, device: DeviceFacts, texts: int, choice: Choice
) -> StagePeak:
    """One expert run in one way. `texts` is how many prompts' keys and values are kept."""
    size = bytes_of(device.dtype)
    heads = heads_of(model)
    activations = Transformer(
        dim=model.dim,
        ffn_dim=model.ffn_dim,
        heads=heads,
        layers=model.num_layers,
        element=size,
        chunk_tokens=choice.chunk_tokens,
        group_heads=max(1, heads // choice.head_groups),
        text_dim=model.text_dim,
        kept_texts=texts,
    ).peak(shape)
    whole = {"resident_blocks": model.num_layers} if choice.residency == "resident" else {}
    # A card keeps LoRAs beside a resident expert; elsewhere they stay in the mapped file.
    loras = model.lora_bytes if device.is_cuda and choice.residency == "resident" else 0
    weights = expert_weights(model, size, choice) + loras
    return _peak(stage, weights, activations * MARGIN, device, choice.model_copy(update=whole))


def heads_of(model: ModelRow) -> int:
    """Attention heads of an expert: 128 wide in A14B, 64 in the embedded model."""
    return max(1, model.dim // (128 if model.dim >= 1024 else 64))


def block_bytes(model: ModelRow, element: int) -> int:
    """Bytes of one transformer block's weights in the compute dtype."""
    return (8 * model.dim**2 + 2 * model.dim * model.ffn_dim + 24 * model.dim) * element


def expert_weights(model: ModelRow, element: int, choice: Choice) -> int:
    """Bytes of one expert's weights as held at once: in the compute dtype; fp8 and GGUF as stored, with two blocks in it."""
    block = block_bytes(model, element)
    # The time embedding stays in float32 whatever the compute dtype (diffusers' `_keep_in_fp32_modules`).
    whole = model.expert_parameters * element + (model.dim**2 + 300 * model.dim) * (FLOAT - element)
    outside = max(0, whole - model.num_layers * block)
    moving = model.dim * model.ffn_dim * element
    if choice.residency == "resident":
        return model.packed_bytes + outside + 2 * block if model.packed_bytes else whole
    # Once all blocks have come and stay, none is on its way.
    held = min(2 + choice.resident_blocks, model.num_layers)
    return outside + held * block + moving


def stored_bytes(model: ModelRow, kind: Kind) -> float:
    """Bytes of a stage's weight file; two per weight where the row does not say."""
    if kind == "denoise":
        return model.packed_bytes or model.expert_parameters * STORED
    return STORED * (model.text_parameters if kind == "text" else vae_parameters(model, kind))


def _with_ram(peak: StagePeak, text: StagePeak, model: ModelRow, shape: LatentShape, device: DeviceFacts) -> StagePeak:
    """The peak with its RAM, and with where streamed blocks come from."""
    ram = peak.memory_gib * GIB
    if device.is_cuda:
        ram = HOST_BYTES + _pinned(peak, text, model) + _carried(peak, model, shape)
    update: dict[str, object] = {"ram_gib": round(ram / GIB, 3)}
    if peak.residency == "streamed":
        # Blocks that stay on the card are read once: their pages need not stay in RAM.
        share = 1 - peak.resident_blocks / model.num_layers
        needed = stored_bytes(model, peak.kind) * share + ram + SYSTEM_BYTES
        update["streams_from"] = "ram" if needed <= device.ram_bytes else "disk"
    return peak.model_copy(update=update)


def _pinned(peak: StagePeak, text: StagePeak, model: ModelRow) -> int:
    """Pinned buffers of streaming: torch rounds them up to powers of two and keeps them for the process's life."""
    vocabulary = UMT5_XXL["vocabulary"] * model.text_dim * STORED if text.residency == "streamed" else 0
    expert = 2 * _power_of_two(model.dim * model.ffn_dim * STORED)
    before = _power_of_two(vocabulary) if vocabulary else 0
    return before + (expert if peak.kind == "denoise" and peak.residency == "streamed" else 0)


def _carried(peak: StagePeak, model: ModelRow, shape: LatentShape) -> float:
    """What a job itself has in RAM: embeddings, conditioning, latents with a sampler's memory; in decode, frames."""
    _, channels, frames, height, width = shape.tensor
    latents = 8 * channels * frames * height * width * FLOAT
    pixels = height * width * 64 * 3
    embeddings = 2 * TEXT_TOKENS * model.text_dim * FLOAT
    return (
        latents
        + embeddings
        + {"image": 5, "decode": 12}.get(peak.kind, 0) * pixels * FLOAT
        + (ENCODER_BYTES if peak.kind == "decode" else 0)
    )


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _text(model: ModelRow, room: Room) -> StagePeak:
    """The text encoder: streamed where it does not fit, which only UMT5-XXL can need."""
    device = room.device
    size = bytes_of(device.dtype)
    whole, width = model.text_parameters * size, model.text_dim
    scores = TEXT_TOKENS**2 * max(1, width // 64) * 12
    activations = TEXT_TOKENS * width * 16 * size + scores
    peak = room.corrected(_peak("text", whole, activations, device))
    if peak.memory_gib * GIB <= room.bytes or width != UMT5_XXL["text_dim"]:
        return peak
    embedding = UMT5_XXL["vocabulary"] * width * size
    block = max(0, whole - embedding) // UMT5_XXL["layers"]
    streamed = Choice(residency="streamed", chunk_tokens=0, head_groups=0)
    return room.corrected(_peak("text", embedding + 2 * block, activations, device, streamed))


def _peak(
    stage: str, weights: float, activations: float, device: DeviceFacts, choice: Choice | None = None
) -> StagePeak:
    runtime = 0 if device.is_cuda else RUNTIME_BYTES
    return StagePeak(
        stage=stage,
        weights_gib=round(weights / GIB, 3),
        activations_gib=round(activations / GIB, 3),
        memory_gib=round((weights + activations + runtime) / GIB, 3),
        **(choice.model_dump() if choice else {}),
    )


def _nearest(model: ModelRow, shape: LatentShape, frames: int, room: Room, guided: bool) -> str:
    """What fits: the longest clip of this size, the largest size at this length."""

    def first(candidates: Iterator[tuple[str, LatentShape]]) -> str | None:
        return next((text for text, candidate in candidates if fits(candidate)), None)

    def fits(candidate: LatentShape) -> bool:
        return all(room.fits(peak) for peak in _stages(model, candidate, room, 1 + guided))

    found = " or ".join(filter(None, (first(_shorter(shape, frames)), first(_smaller(model, shape, frames)))))
    return f"Choose {found}." if found else "No size or length of this model fits; choose a device with more memory."


def _shorter(shape: LatentShape, frames: int) -> Iterator[tuple[str, LatentShape]]:
    """Shorter clips of this size, from long to short."""
    for length in range(frames - VAE_SCALE_TEMPORAL, 0, -VAE_SCALE_TEMPORAL):
        yield f"{length} frames at this size", latent_shape(length, shape.height * 8, shape.width * 8)


def _smaller(model: ModelRow, shape: LatentShape, frames: int) -> Iterator[tuple[str, LatentShape]]:
    """Clips of this length from large to small: of this shape, as near as multiples of 16 come, and of the offered sizes."""
    width, height = shape.width * 8, shape.height * 8
    alike = {(across, max(1, round(across * height / width / 16)) * 16) for across in range(16, width, 16)}
    for across, down in sorted(alike | set(model.sizes), key=lambda size: (-size[0] * size[1], size)):
        if across * down < width * height:
            yield f"{across}×{down} at this length", latent_shape(frames, down, across)
