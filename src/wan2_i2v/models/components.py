"""Build a component, yield it, free it: the only place that puts weights into memory.

Comes in: a `JobPlan`'s model files, device and dtype. Goes out: context managers that yield ready modules in eval mode.
Imported by stages.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from wan2_i2v.acceleration import Attention
from wan2_i2v.errors import CheckpointError, DeviceError, Wan2I2VError, translate
from wan2_i2v.memory import Residency
from wan2_i2v.models import freeing, lean, residency
from wan2_i2v.models.attention import usable_backend
from wan2_i2v.models.formats.architecture import VAE_HALVES
from wan2_i2v.models.formats.encodings import PACKED_TYPES
from wan2_i2v.models.formats.opening import Component, Part, load, open_component
from wan2_i2v.models.formats.source import HeldSource, WeightSource
from wan2_i2v.models.lora.apply import AppliedLoras, apply_loras
from wan2_i2v.models.lora.reading import LoraSpec
from wan2_i2v.plan import LoraPlan
from wan2_i2v.rows import ModelFiles
from wan2_i2v.schedule import Expert

Half = Literal["encoder", "decoder"]

PART: dict[Expert, str] = {"high": "transformer", "single": "transformer", "low": "transformer_2"}


@dataclass(frozen=True)
class Source:
    """Which weights, where and how: what two jobs must share to share a load.

    `residency` and what follows as the memory plan chose them for the stage; `resident_blocks` counts only when streamed.
    `loras` are those of one expert, in order; `attention` and `compiled` are an expert's too.
    """

    files: ModelFiles
    device: str
    dtype: str
    residency: Residency = "resident"
    chunk_tokens: int = 1024
    head_groups: int = 4
    resident_blocks: int = 0
    loras: tuple[LoraPlan, ...] = ()
    attention: Attention = "sdpa"
    compiled: bool = False

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
    with _loading(source, "text_encoder"):
        tokenizer = _tokenizer(source.files)
        component = _open(source, "text_encoder")
    if source.residency == "streamed":
        with _streamed(source, component, component.source) as (model, blocks):
            residency.stream_by_hooks(model, "text_encoder", blocks)
            yield TextEncoder(tokenizer, model)
        return
    with _resident(source, component) as model:
        yield TextEncoder(tokenizer, model)


def _tokenizer(files: ModelFiles) -> Any:
    """The tokenizer of a folder, or the one that a file carries: the text encoder's own where no other is named."""
    if files.tokenizer is None or files.tokenizer.is_file():
        from wan2_i2v.models.formats.tokenizer import stored_tokenizer

        return stored_tokenizer(files.tokenizer or files.text_encoder)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(files.tokenizer, local_files_only=True)


@contextlib.contextmanager
def vae(source: Source, half: Half) -> Iterator[Any]:
    """One half of the causal 3D VAE: an `AutoencoderKLWan` that can encode or decode and has no weights for the other."""
    with _loading(source, "vae"):
        component = _open(source, "vae").only(*VAE_HALVES[half])
    with _resident(source, component) as model:
        yield model


@contextlib.contextmanager
def transformer(source: Source, expert: Expert) -> Iterator[Any]:
    """One expert (`WanTransformer3DModel`) with the lean forward.

    Weights stored as fp8 or GGUF stay so also when resident: a block is converted while it is needed.
    """
    with _loading(source, PART[expert]):
        component = _open(source, PART[expert])
        held = _held(source, component)
    if held is not None:
        with _streamed(source, component, held) as (model, blocks):
            yield lean.apply(model, _chunking(source, model), blocks, _kernels(source))
        return
    with _resident(source, component) as model, _loras(source, model):
        yield lean.apply(model, _chunking(source, model), lean.Resident(), _kernels(source))


def _held(source: Source, component: Component) -> WeightSource | None:
    """From where blocks come one by one: the file, or its packed weights on the device; None when all are floats."""
    if source.residency == "streamed":
        return component.source
    names = component.source.keys()
    packed = any(component.source.stored_dtype(key) in PACKED_TYPES for key in names)
    return HeldSource(component.source, source.torch_device()) if packed else None


def _loras(source: Source, module: torch.nn.Module) -> AppliedLoras:
    """The LoRAs of the source on an expert; beside a resident one on a card they are kept there."""
    specs = [LoraSpec(Path(lora.path), lora.strength) for lora in source.loras]
    device = source.torch_device()
    if device.type == "cpu" or source.residency == "streamed":
        return apply_loras(module, specs)
    return apply_loras(module, specs, device=device, dtype=source.torch_dtype())


def _chunking(source: Source, model: Any) -> lean.Chunking:
    return lean.Chunking(source.chunk_tokens, max(1, model.config.num_attention_heads // source.head_groups))


def _kernels(source: Source) -> lean.Kernels:
    return lean.Kernels(usable_backend(source.attention), lean.compiled_pieces() if source.compiled else lean.PLAIN)


def _open(source: Source, part: str) -> Component:
    kind: Part = "text_encoder" if part == "text_encoder" else "vae" if part == "vae" else "transformer"
    return open_component(source.files.parts()[part], kind, source.files.config_file(part))


@contextlib.contextmanager
def _resident(source: Source, component: Component) -> Iterator[Any]:
    """A whole module on its device; its memory is given back on the way out, exceptions included."""
    _set_libraries_aside()
    with _loading(source, component.part):
        try:
            module = load(component, source.torch_device(), source.torch_dtype())
        finally:
            component.source.close()
    try:
        yield module
    finally:
        _free(module)


@contextlib.contextmanager
def _streamed(source: Source, component: Component, weights: WeightSource) -> Iterator[tuple[Any, residency.Streamed]]:
    """A module without its blocks' weights, and the stream that brings those one by one; all freed on the way out."""
    _set_libraries_aside()
    place = source.torch_device(), source.torch_dtype()
    with _loading(source, component.part):
        module = residency.load_outside_blocks(component, *place)
    try:
        keep = source.resident_blocks if source.residency == "streamed" else 0
        with (
            _loras(source, module) as loras,
            residency.Streamed(module, component.part, loras.adjust(weights), place, keep=keep) as blocks,
        ):
            yield module, blocks
    finally:
        _free(module)
        weights.close()


@lru_cache(maxsize=1)
def _set_libraries_aside() -> None:
    """Once per process: what the libraries made when they were imported is no garbage, so let no collection look at it.

    Looking through it took 0.3 s each time that a model was freed.
    """
    gc.collect()
    gc.freeze()


def _free(module: Any) -> None:
    """Give a module's memory back. Callers may still hold a reference; without storage it costs nothing."""
    module.to("meta")
    if isinstance(getattr(module, "forward", None), lean.LeanForward):
        # It keeps texts, and it and the module hold each other.
        del module.forward
    freeing.free()


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
            f"{source.files.parts()[part]} cannot be loaded ({type(error).__name__}: {error}). Restore the checkpoint."
        ) from error
