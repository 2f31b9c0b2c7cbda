"""Bytes per stage from shapes and dtypes. A leaf without torch.

Formulas: weights = parameters × bytes of the compute dtype, for the one model that a stage holds; activations of the
transformer = tokens × (8·dim + ffn) × bytes, the tensors alive at once in diffusers' `WanTransformerBlock` (hidden, its
float32 copy, q, k, v, attention output; or hidden and the feed-forward's inner tensor); of the VAE = full-resolution
feature maps of one chunk of frames.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import DoesNotFit
from wan2_i2v.geometry import VAE_SCALE_TEMPORAL, LatentShape
from wan2_i2v.rows import ModelRow

GIB = 2**30
TEXT_TOKENS = 512
RUNTIME_BYTES = int(0.6 * GIB)
"""Python, torch and libraries in RAM; measured on a CPU build of torch 2.13."""


class StagePeak(BaseModel):
    """Predicted peak of one stage. `memory_gib` is in VRAM on a card and in RAM on a CPU."""

    model_config = ConfigDict(frozen=True)

    stage: str
    weights_gib: float
    activations_gib: float
    memory_gib: float


def bytes_of(dtype: str) -> int:
    """Bytes of one element of a torch dtype name."""
    return {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]


def peaks(
    model: ModelRow, shape: LatentShape, frames: int, device: DeviceFacts, *, guided: bool
) -> tuple[StagePeak, ...]:
    """Predicted peak of every stage that loads weights.

    Raises DoesNotFit when the largest one exceeds the device's memory, naming the stage.
    """
    size = bytes_of(device.dtype)
    pixels = shape.height * shape.width * 64
    token_bytes = shape.tokens * (8 * model.dim + model.ffn_dim) * size
    vae_bytes = pixels // model.vae_patch**2 * model.vae_base_dim * 4 * (VAE_SCALE_TEMPORAL + 2) * size
    rows = [
        ("text", model.text_parameters, TEXT_TOKENS * model.text_dim * 8 * size),
        ("image", model.vae_parameters, vae_bytes + frames * pixels * 3 * size),
        *((f"denoise {expert}", model.expert_parameters, token_bytes) for expert in model.experts),
        ("decode", model.vae_parameters, vae_bytes),
    ]
    result = tuple(_peak(stage, count * size, activations, device) for stage, count, activations in rows)
    _refuse(result, device)
    return result


def _peak(stage: str, weights: int, activations: int, device: DeviceFacts) -> StagePeak:
    runtime = 0 if device.is_cuda else RUNTIME_BYTES
    return StagePeak(
        stage=stage,
        weights_gib=round(weights / GIB, 3),
        activations_gib=round(activations / GIB, 3),
        memory_gib=round((weights + activations + runtime) / GIB, 3),
    )


def _refuse(result: tuple[StagePeak, ...], device: DeviceFacts) -> None:
    worst = max(result, key=lambda peak: peak.memory_gib)
    limit = (device.vram_bytes if device.is_cuda else device.ram_bytes) / GIB
    if worst.memory_gib > limit:
        raise DoesNotFit(
            f"stage {worst.stage} needs {worst.memory_gib:.1f} GiB and {device.label} has {limit:.1f} GiB. "
            "Choose a smaller size or fewer frames."
        )
