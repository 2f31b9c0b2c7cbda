"""Build a component, yield it, free it: the only place that puts weights into memory.

Comes in: a `JobPlan`'s model path, device and dtype. Goes out: context managers that yield ready modules in eval mode.
Imported by stages.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.errors import CheckpointError, DeviceError, Wan2I2VError, translate
from wan2_i2v.memory import Residency
from wan2_i2v.models import lean, residency
from wan2_i2v.models.formats.opening import Part, open_component
from wan2_i2v.schedule import Expert

FOLDER: dict[Expert, str] = {"high": "transformer", "single": "transformer", "low": "transformer_2"}


@dataclass(frozen=True)
class Source:
    """Which weights, where and how: what two jobs must share to share a load.

    The last four as the memory plan chose them for the stage; `resident_blocks` counts only when streamed.
    """

    path: Path
    device: str
    dtype: str
    residency: Residency = "resident"
    chunk_tokens: int = 1024
    head_groups: int = 4
    resident_blocks: int = 0

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
    if source.residency == "streamed":
        with _streamed(source, "text_encoder", "text_encoder") as (model, blocks):
            residency.stream_by_hooks(model, "text_encoder", blocks)
            yield TextEncoder(tokenizer, model)
        return
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
    """One expert (`WanTransformer3DModel`) with the lean forward."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    folder = FOLDER[expert]
    if source.residency == "streamed":
        with _streamed(source, folder, "transformer") as (model, blocks):
            yield lean.apply(model, _chunking(source, model), blocks)
        return
    with _resident(source, folder, lambda: _from_folder(WanTransformer3DModel, source, folder)) as model:
        yield lean.apply(model, _chunking(source, model), lean.Resident())


def _chunking(source: Source, model: Any) -> lean.Chunking:
    return lean.Chunking(source.chunk_tokens, max(1, model.config.num_attention_heads // source.head_groups))


def _from_folder(cls: Any, source: Source, folder: str) -> Any:
    return cls.from_pretrained(source.path / folder, torch_dtype=source.torch_dtype(), local_files_only=True)


@contextlib.contextmanager
def _resident(source: Source, part: str, build: Callable[[], Any]) -> Iterator[Any]:
    """Build a module, move it to its device, yield it; give its memory back on the way out, exceptions included."""
    _set_libraries_aside()
    with _loading(source, part):
        module = build().to(source.torch_device()).eval().requires_grad_(False)
    try:
        yield module
    finally:
        _free(source, module)


@contextlib.contextmanager
def _streamed(source: Source, folder: str, part: Part) -> Iterator[tuple[Any, residency.Streamed]]:
    """A module without its blocks' weights, and the stream that brings those one by one; all freed on the way out."""
    _set_libraries_aside()
    place = source.torch_device(), source.torch_dtype()
    with _loading(source, folder):
        component = open_component(source.path / folder, part)
        module = residency.load_outside_blocks(component, *place)
    try:
        with residency.Streamed(module, part, component.source, place, keep=source.resident_blocks) as blocks:
            yield module, blocks
    finally:
        _free(source, module)
        component.source.close()


@lru_cache(maxsize=1)
def _set_libraries_aside() -> None:
    """Once per process: what the libraries made when they were imported is no garbage, so let no collection look at it.

    Looking through it took 0.3 s each time that a model was freed.
    """
    gc.collect()
    gc.freeze()


def _free(source: Source, module: Any) -> None:
    """Give a module's memory back. Callers may still hold a reference; without storage it costs nothing."""
    module.to("meta")
    if isinstance(getattr(module, "forward", None), lean.LeanForward):
        # It keeps texts, and it and the module hold each other.
        del module.forward
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
