"""Nodes that a real ComfyUI server loads in tests, in place of its own: those whose weights have one size only, a large one.

The text encoder gives the golden data's text, the VAE shrinks pictures and decodes to the first of them, growing slowly. The
samplers are ComfyUI's own and first look at what the test put into `script.json` beside this file: a node error, memory that
runs out, an interruption, or being stuck until it is interrupted. Everything else is the server's.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
OOM = "Allocation on device 0 would exceed allowed memory."
server: Any = sys.modules["nodes"]
SHRUNK = 8


def golden_module() -> Any:
    """The golden data's tiny_wan, from where the test says that it lies."""
    place = Path(json.loads((HERE / "golden.json").read_text())) / "tiny_wan.py"
    spec = importlib.util.spec_from_file_location("tiny_wan", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Text:
    """A text encoder that knows two texts: the golden one, and for an empty prompt its negative."""

    def __init__(self) -> None:
        tiny = golden_module()
        self.known = {empty: torch.from_numpy(tiny.text_embeds(negative=empty)) for empty in (False, True)}

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list[Any]:
        return [[self.known[not tokens], {}]]


class Vae:
    """Latents: every eighth pixel's colours, over and over. Frames: those of the last picture that was encoded, growing."""

    def __init__(self) -> None:
        self.first = torch.zeros(1, 16, 16, 3)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """(frames, height, width, 3) in [0, 1] → (1, 16, latent frames, height/8, width/8)."""
        self.first = frames[:1]
        latents = frames[::4, ::SHRUNK, ::SHRUNK].permute(3, 0, 1, 2) * 2 - 1
        return latents.repeat(6, 1, 1, 1)[None, :16]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(1, 16, latent frames, …) → (1, frames, height, width, 3) in [0, 1]."""
        assert torch.isfinite(latents).all()
        picture = self.first.permute(0, 3, 1, 2)
        height, width = picture.shape[2:]
        frames = []
        for index in range((latents.shape[2] - 1) * 4 + 1):
            grow = torch.tensor([[[1 - index / width, 0, 0], [0, 1 - index / width, 0]]], dtype=picture.dtype)
            grid = torch.nn.functional.affine_grid(grow, [1, 3, height, width], align_corners=False)
            frames.append(torch.nn.functional.grid_sample(picture, grid, "bicubic", "border", align_corners=False))
        return torch.stack([frame[0].permute(1, 2, 0).clamp(0, 1) for frame in frames])[None]


class TextLoader(server.CLIPLoader):  # type: ignore[misc]
    def load_clip(self, **inputs: Any) -> tuple[Text]:
        return (Text(),)


class VaeLoader(server.VAELoader):  # type: ignore[misc]
    def load_vae(self, **inputs: Any) -> tuple[Vae]:
        return (Vae(),)


class Sampler(server.KSamplerAdvanced):  # type: ignore[misc]
    def sample(self, **inputs: Any) -> Any:
        if inputs["start_at_step"] == 0:
            meet(next_fate())
        return super().sample(**inputs)


def next_fate() -> str:
    script = HERE / "script.json"
    fates = json.loads(script.read_text()) if script.exists() else []
    if fates:
        script.write_text(json.dumps(fates[1:]))
    return fates[0] if fates else "done"


def meet(fate: str) -> None:
    stopping = sys.modules["comfy.model_management"]
    if fate == "node error":
        raise RuntimeError("mat1 and mat2 shapes\ncannot be multiplied")
    if fate == "out of memory":
        raise torch.OutOfMemoryError(OOM)
    if fate == "interrupted":
        stopping.interrupt_current_processing()
        stopping.throw_exception_if_processing_interrupted()
    while fate == "stuck":
        stopping.throw_exception_if_processing_interrupted()
        time.sleep(0.02)


class GoldenStart:
    """The golden data's picture as latents, in place of WanImageToVideo."""

    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT")
    FUNCTION = "start"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        size = {name: ("INT", {"default": 1}) for name in ("frames", "height", "width")}
        return {"required": {"positive": ("CONDITIONING",), "negative": ("CONDITIONING",), **size}}

    def start(self, positive: Any, negative: Any, frames: int, height: int, width: int) -> tuple[Any, Any, Any]:
        mask = torch.ones(1, 1, frames, height, width)
        mask[:, :, 0] = 0
        picture = torch.from_numpy(golden_module().image_latent(frames, height, width))
        both = [
            [[text, about | {"concat_latent_image": picture, "concat_mask": mask}] for text, about in told]
            for told in (positive, negative)
        ]
        return both[0], both[1], {"samples": torch.zeros(1, 16, frames, height, width)}


server.NODE_CLASS_MAPPINGS |= {"CLIPLoader": TextLoader, "VAELoader": VaeLoader, "KSamplerAdvanced": Sampler}
NODE_CLASS_MAPPINGS = {"GoldenStart": GoldenStart}
