"""Build a component, yield it, free it: the only place that puts weights into memory.

Comes in: a `JobPlan`'s model path, device and dtype. Goes out: context managers that yield ready modules in eval mode.
Imported by stages.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.errors import CheckpointError, DeviceError, Wan2I2VError, translate
from wan2_i2v.models import lean
from wan2_i2v.schedule import Expert

CHUNK_TOKENS = 1024
"""Tokens computed at once on a CPU: a chunk of a small model stays in the processor's cache."""

HEAD_GROUPS = 4
"""Parts in which self-attention is computed; each holds its share of one tensor of hidden size beside the queries."""

FOLDER: dict[Expert, str] = {"high": "transformer", "single": "transformer", "low": "transformer_2"}


@dataclass(frozen=True)
class Source:
    """Which weights, where and how: what two jobs must share to share a load."""

    path: Path
    device: str
    dtype: str

    def torch_device(self) -> torch.device:
        """The device as torch sees it.

        Raises DeviceError when this torch cannot use it.
        """
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                f"the plan says {self.device} but this torch ({torch.__version__}) has no working CUDA. Install a CUDA "
                "build of torch, or plan with --device cpu."
            )
        return device

    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype


@dataclass(frozen=True)
class TextEncoder:
    """A UMT5 encoder with its tokenizer."""

    tokenizer: Any
    model: Any


@contextlib.contextmanager
def text_encoder(source: Source) -> Iterator[TextEncoder]:
    """The tokenizer and text encoder (`UMT5EncoderModel`) of a checkpoint."""
    from transformers import AutoTokenizer, UMT5EncoderModel
    from transformers.utils.logging import disable_progress_bar

    # Progress is ours to show, through events; the library's bar would write into the user's terminal.
    disable_progress_bar()

    def build() -> Any:
        folder = source.path / "text_encoder"
        return UMT5EncoderModel.from_pretrained(folder, dtype=source.torch_dtype(), local_files_only=True)

    with _loading(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source.path / "tokenizer", local_files_only=True)
    with _resident(source, "text_encoder", build) as model:
        yield TextEncoder(tokenizer, model)


@contextlib.contextmanager
def vae(source: Source) -> Iterator[Any]:
    """The causal 3D VAE (`AutoencoderKLWan`)."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    with _resident(source, "vae", lambda: _from_folder(AutoencoderKLWan, source, "vae")) as model:
        yield model


@contextlib.contextmanager
def transformer(source: Source, expert: Expert) -> Iterator[Any]:
    """One expert (`WanTransformer3DModel`)."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    folder = FOLDER[expert]
    with _resident(source, folder, lambda: _from_folder(WanTransformer3DModel, source, folder)) as model:
        chunking = lean.Chunking(CHUNK_TOKENS, max(1, model.config.num_attention_heads // HEAD_GROUPS))
        yield lean.apply(model, chunking, lean.Resident())


def _from_folder(cls: Any, source: Source, folder: str) -> Any:
    return cls.from_pretrained(source.path / folder, torch_dtype=source.torch_dtype(), local_files_only=True)


@contextlib.contextmanager
def _resident(source: Source, part: str, build: Callable[[], Any]) -> Iterator[Any]:
    """Build a module, move it to its device, yield it; give its memory back on the way out, exceptions included."""
    with _loading(source, part):
        module = build().to(source.torch_device()).eval().requires_grad_(False)
    try:
        yield module
    finally:
        # Callers may still hold a reference; without storage it costs nothing.
        module.to("meta")
        gc.collect()
        if source.device.startswith("cuda"):
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _loading(source: Source, part: str) -> Iterator[None]:
    """Give errors of loading the name of the part and what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        known = translate(error, f"loading {part}")
        if type(known) is not Wan2I2VError:
            raise known from error
        raise CheckpointError(
            f"{part} of {source.path} cannot be loaded ({type(error).__name__}: {error}). Restore the checkpoint."
        ) from error
