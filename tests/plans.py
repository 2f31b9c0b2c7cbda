"""Plans, rows and devices made by hand, for tests that need no checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wan2_i2v.devices import DeviceFacts
from wan2_i2v.geometry import WAN_SIZES
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
    }
    return ModelRow(**(known | changes))


def plan(model: ModelRow | None = None, image: ImageFacts | None = None, **request: Any) -> JobPlan:
    """The plan of a request on this model and picture, on a CPU."""
    asked = GenerateRequest(**({"image": "picture.png", "prompt": "a test"} | request))
    return plan_job(asked, image or facts(), model or row(), CPU, seed=7)
