"""The memory plan: for every stage, how its weights are held and how much is computed at once. A leaf without torch.

Comes in: a model row, a latent shape, a device. Goes out: one `StagePeak` per stage with the least sparing choice that
fits, or DoesNotFit naming the nearest size and length that do. Activations come from `footprint`; weights are parameters
× bytes of the compute dtype: all of a stage's model when resident; when streamed everything outside the blocks, two
blocks, and one weight as stored on its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DoesNotFit
from wan2_i2v.footprint import FLOAT, TEXT_TOKENS, Transformer, Vae
from wan2_i2v.geometry import VAE_SCALE_TEMPORAL, LatentShape, latent_shape
from wan2_i2v.rows import ModelRow

GIB = 2**30
RUNTIME_BYTES = int(0.6 * GIB)
"""Python, torch and libraries in RAM; measured on a CPU build of torch 2.13."""

CONTEXT_BYTES = int(0.6 * GIB)
"""What a card's driver and torch's CUDA context take of its memory. An estimate: never measured on a card here."""

MARGIN = 1.03
"""Over the traced peaks, so that no prediction is below: `benchmarks/memory.py`."""

UMT5_XXL = {"text_dim": 4096, "vocabulary": 256_384, "layers": 24}

Residency = Literal["resident", "streamed"]


class StagePeak(BaseModel):
    """Predicted peak of one stage. `memory_gib` is in VRAM on a card and in RAM on a CPU.

    `residency`: all weights in that memory, or block by block from the file. `chunk_tokens` and `head_groups` say in which
    portions the transformer computes; 0 for other stages. `resident_blocks` of the transformer stay in memory: all when
    resident, some or none when streamed. The VAE works on the picture in `strips`, one after the other.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    weights_gib: float
    activations_gib: float
    memory_gib: float
    residency: Residency = "resident"
    chunk_tokens: int = 0
    head_groups: int = 0
    resident_blocks: int = 0
    strips: int = 1


class Choice(BaseModel):
    """One way to run the transformer."""

    model_config = ConfigDict(frozen=True)

    residency: Residency
    chunk_tokens: int
    head_groups: int


CHOICES = tuple(
    Choice(residency=residency, chunk_tokens=tokens, head_groups=groups)
    for residency in ("resident", "streamed")
    for tokens, groups in ((4096, 4), (2048, 8), (512, 40))
)
"""From fast to sparing, for cards."""

CPU_CHOICES = tuple(choice.model_copy(update={"chunk_tokens": 1024}) for choice in CHOICES)
"""On a CPU a chunk of a small model stays in the processor's cache."""


def bytes_of(dtype: str) -> int:
    """Bytes of one element of a torch dtype name."""
    return {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]


def peaks(
    model: ModelRow, shape: LatentShape, frames: int, device: DeviceFacts, *, guided: bool
) -> tuple[StagePeak, ...]:
    """Predicted peak of every stage that loads weights.

    Raises DoesNotFit when a stage exceeds the device's memory in every way to run it, naming the stage and the nearest
    size and length that fit.
    """
    result = _stages(model, shape, device, 1 + guided)
    worst = max(result, key=lambda peak: peak.memory_gib)
    if worst.memory_gib * GIB > _limit(device):
        raise DoesNotFit(
            f"stage {worst.stage} needs {worst.memory_gib:.1f} GiB and {device.label} has {_limit(device) / GIB:.1f} GiB"
            f"{' left beside the driver' if device.is_cuda else ''}. {_nearest(model, shape, frames, device, guided)}"
        )
    return result


def _stages(model: ModelRow, shape: LatentShape, device: DeviceFacts, texts: int) -> tuple[StagePeak, ...]:
    size = bytes_of(device.dtype)
    vae = vae_of(model, size)
    weights = model.vae_parameters * size
    return (
        _text(model, device),
        _peak("image", weights, vae.encode_peak(shape) * MARGIN, device),
        *(_denoise(f"denoise {expert}", model, shape, device, texts) for expert in model.experts),
        _peak("decode", weights, vae.decode_peak(shape) * MARGIN, device),
    )


def vae_of(model: ModelRow, element: int) -> Vae:
    """The VAE's dimensions: Wan 2.1's, or with pixel patches those of the embedded model."""
    if model.vae_patch > 1:
        return Vae(model.vae_base_dim, (1, 2, 2), (True, True), 1, model.vae_patch, element)
    return Vae(model.vae_base_dim, (1, 2, 4, 4), (False, True, True), 2, 1, element)


def _denoise(stage: str, model: ModelRow, shape: LatentShape, device: DeviceFacts, texts: int) -> StagePeak:
    """The first choice that fits, or the last."""
    for choice in CHOICES if device.is_cuda else CPU_CHOICES:
        peak = denoise_peak(stage, model, shape, device, texts, choice)
        if peak.memory_gib * GIB <= _limit(device):
            break
    return peak


def denoise_peak(
    stage: str, model: ModelRow, shape: LatentShape, device: DeviceFacts, texts: int, choice: Choice
) -> StagePeak:
    """One expert run in one way. `texts` is how many prompts' keys and values are kept."""
    size = bytes_of(device.dtype)
    heads = max(1, model.dim // (128 if model.dim >= 1024 else 64))
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
    peak = _peak(stage, expert_weights(model, size, choice.residency), activations * MARGIN, device, choice)
    return peak.model_copy(update={"resident_blocks": model.num_layers if choice.residency == "resident" else 0})


def expert_weights(model: ModelRow, element: int, residency: Residency) -> int:
    """Bytes of one expert's weights as held at once: in the compute dtype; fp8 and GGUF as stored, with two blocks in it."""
    block = (8 * model.dim**2 + 2 * model.dim * model.ffn_dim + 24 * model.dim) * element
    # The time embedding stays in float32 whatever the compute dtype (diffusers' `_keep_in_fp32_modules`).
    whole = model.expert_parameters * element + (model.dim**2 + 300 * model.dim) * (FLOAT - element)
    outside = max(0, whole - model.num_layers * block)
    moving = model.dim * model.ffn_dim * element
    if residency == "resident" and model.packed_bytes:
        return model.packed_bytes + outside + 2 * block
    return whole if residency == "resident" else outside + 2 * block + moving


def _text(model: ModelRow, device: DeviceFacts) -> StagePeak:
    """The text encoder: streamed where it does not fit, which only UMT5-XXL can need."""
    size = bytes_of(device.dtype)
    whole, width = model.text_parameters * size, model.text_dim
    scores = TEXT_TOKENS**2 * max(1, width // 64) * 12
    activations = TEXT_TOKENS * width * 16 * size + scores
    peak = _peak("text", whole, activations, device)
    if peak.memory_gib * GIB <= _limit(device) or width != UMT5_XXL["text_dim"]:
        return peak
    embedding = UMT5_XXL["vocabulary"] * width * size
    block = max(0, whole - embedding) // UMT5_XXL["layers"]
    streamed = Choice(residency="streamed", chunk_tokens=0, head_groups=0)
    return _peak("text", embedding + 2 * block, activations, device, streamed)


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


def _limit(device: DeviceFacts) -> int:
    return device.vram_bytes - CONTEXT_BYTES if device.is_cuda else device.ram_bytes


def _nearest(model: ModelRow, shape: LatentShape, frames: int, device: DeviceFacts, guided: bool) -> str:
    """What fits: the longest clip of this size, the largest offered size at this length."""
    fits = [
        text
        for text, candidate in _smaller(model, shape, frames)
        if all(peak.memory_gib * GIB <= _limit(device) for peak in _stages(model, candidate, device, 1 + guided))
    ]
    longest = next((text for text in fits if text.endswith("frames at this size")), None)
    largest = next((text for text in fits if text.endswith("at this length")), None)
    found = " or ".join(text for text in (longest, largest) if text)
    return f"Choose {found}." if found else "No size or length of this model fits; choose a device with more memory."


def _smaller(model: ModelRow, shape: LatentShape, frames: int) -> Iterator[tuple[str, LatentShape]]:
    """Shorter clips of this size from long to short, then smaller offered sizes from large to small."""
    height, width = shape.height * 8, shape.width * 8
    for length in range(frames - VAE_SCALE_TEMPORAL, 0, -VAE_SCALE_TEMPORAL):
        yield f"{length} frames at this size", latent_shape(length, height, width)
    for offered in sorted(model.sizes, key=lambda size: -size[0] * size[1]):
        if offered[0] * offered[1] < height * width:
            yield f"{offered[0]}×{offered[1]} at this length", latent_shape(frames, offered[1], offered[0])
