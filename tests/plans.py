"""Plans, rows and devices made by hand, for tests that need no checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wan2_i2v.advice import Sight
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.geometry import WAN_SIZES
from wan2_i2v.measured import Table
from wan2_i2v.memory import NOTHING_MEASURED
from wan2_i2v.plan import ImageFacts, JobPlan, plan_job
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelFiles, ModelRow

CPU = DeviceFacts("cpu", "CPU", 0, 24 * 2**30, "float32")


def facts(width: int = 96, height: int = 64, **changes: Any) -> ImageFacts:
    """Facts of an ordinary RGB PNG."""
    known: dict[str, Any] = {
        "path": "picture.png",
        "sha256": "0" * 64,
        "width": width,
        "height": height,
        "mode": "RGB",
        "format": "PNG",
        "has_alpha": False,
        "animated_frames": 1,
        "rotated": False,
    }
    return ImageFacts(**(known | changes))


def row(path: Path = Path("checkpoint"), **changes: Any) -> ModelRow:
    """A small two-expert model."""
    known: dict[str, Any] = {
        "name": "tiny",
        "files": ModelFiles.in_folder(path),
        "fingerprint": "f" * 64,
        "boundary_ratio": 0.9,
        "default_recipe": "rapid",
        "sizes": WAN_SIZES,
        "trained_fps": 16,
        "trained_frames": 81,
        "expert_parameters": 2_000_000,
        "text_parameters": 1_000_000,
        "vae_parameters": 1_000_000,
        "dim": 256,
        "ffn_dim": 512,
        "num_layers": 2,
        "text_dim": 4096,
        "vae_base_dim": 16,
        "vae_patch": 2,
        "vae_levels": (1, 2, 2),
        "vae_temporal": (True, True),
        "vae_blocks": 1,
    }
    return ModelRow(**(known | changes))


A14B_PACKED = {"bf16": 0, "fp8": 14_300_000_000, "Q4_K_M": 9_650_000_000}
"""Bytes of one A14B expert as stored when it is packed."""


def a14b(stored: str = "bf16", **changes: Any) -> ModelRow:
    """A14B's shapes, without files."""
    known: dict[str, Any] = {
        "name": f"a14b-{stored}",
        "files": None,
        "expert_parameters": 14_288_901_184,
        "text_parameters": 5_680_910_336,
        "vae_parameters": 126_892_531,
        "dim": 5120,
        "ffn_dim": 13824,
        "num_layers": 40,
        "vae_base_dim": 96,
        "vae_patch": 1,
        "vae_levels": (1, 2, 4, 4),
        "vae_temporal": (False, True, True),
        "vae_blocks": 2,
        "packed_bytes": A14B_PACKED[stored],
    }
    return row(**(known | changes))


def card(vram: float, ram: float = 32, **changes: Any) -> DeviceFacts:
    """A card of so many GiB in a machine of so many."""
    known: dict[str, Any] = {
        "name": "cuda:0",
        "label": f"card of {vram:g} GB",
        "vram_bytes": int(vram * 2**30),
        "ram_bytes": int(ram * 2**30),
        "dtype": "bfloat16",
    }
    return DeviceFacts(**(known | changes))


def plan(
    model: ModelRow | None = None,
    image: ImageFacts | None = None,
    device: DeviceFacts = CPU,
    table: Table = NOTHING_MEASURED,
    last: ImageFacts | None = None,
    **request: Any,
) -> JobPlan:
    """The plan of a request on this model, picture and device."""
    asked = GenerateRequest(**({"image": "picture.png", "prompt": "A test in soft light."} | request))
    return plan_job(asked, image or facts(), model or row(), device, seed=7, sight=Sight(last_image=last), table=table)
