"""A path becomes a component ready to be read: `open_component(path, part)` → `Component`.

Any container (diffusers folder, safetensors, GGUF, `.pth`, all-in-one file) in any naming (diffusers, original Wan,
transformers) and precision. Imported by `models.components` and the residency runtime. Nothing is read but headers
until a weight is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from wan2_i2v.models.formats import architecture, fitting
from wan2_i2v.models.formats.headers import read_header
from wan2_i2v.models.formats.identify import Identity, expect
from wan2_i2v.models.formats.naming import entries_of
from wan2_i2v.models.formats.source import FileSource, WeightSource

Part = Literal["transformer", "vae", "text_encoder"]


@dataclass(frozen=True)
class Component:
    """One component of a checkpoint: what it is, how it is built, where its weights come from.

    `children`: the module's direct children that are built, all of them where none is named.
    """

    part: Part
    identity: Identity
    config: Mapping[str, Any]
    source: WeightSource
    children: tuple[str, ...] = ()

    def only(self, *children: str) -> Component:
        """The same component without the module's other children and their weights."""
        return replace(self, children=children)

    def skeleton(self) -> torch.nn.Module:
        """The module on the meta device."""
        return architecture.skeleton(self.part, self.config, self.children)

    def keys(self) -> tuple[str, ...]:
        """Names of the weights that `skeleton` has."""
        names = self.source.keys()
        return tuple(key for key in names if not self.children or key.partition(".")[0] in self.children)


def open_component(path: Path, part: Part, config_file: Path | None = None) -> Component:
    """The `part` that a file or folder holds, its keys checked against the architecture.

    The configuration is that of `config_file`, else of a `config.json` in the folder, else as the shapes tell it.

    Raises CheckpointError naming what the file is when it is something else, or everything that is wrong in it.
    """
    header = read_header(path)
    identity = expect(header, part)
    source = FileSource(header, entries_of(header, part, identity.prefixes[part]))
    names = source.keys()
    shapes = {key: source.shape(key) for key in names}
    config = _stored_config(config_file or path / "config.json") or identity.configs[part]
    expected = {name: tuple(value.shape) for name, value in architecture.skeleton(part, config).named_parameters()}
    fitting.check(path, part, shapes, expected)
    return Component(part, identity, config, source)


def load(component: Component, device: torch.device | str, dtype: torch.dtype) -> torch.nn.Module:
    """The whole component, in eval mode; modules that the class keeps in float32 stay so.

    Weights that need neither conversion nor moving are views of the mapped file where its alignment allows.
    """
    module, names = component.skeleton(), component.keys()
    for key in names:
        set_parameter(module, key, component.source.load(key, device, compute_dtype(module, key, dtype)))
    finish(module, device)
    return module


def compute_dtype(module: torch.nn.Module, key: str, dtype: torch.dtype) -> torch.dtype:
    """`dtype`, or float32 where the module's class keeps this parameter so when loaded in `dtype`.

    The rule of `from_pretrained`: diffusers keeps its list whatever the dtype, transformers only against float16.
    """
    names = getattr(module, "_keep_in_fp32_modules", None) or ()
    applies = dtype is torch.float16 or not hasattr(module, "get_input_embeddings")
    return torch.float32 if applies and any(name in key.split(".") for name in names) else dtype


def set_parameter(module: torch.nn.Module, key: str, value: torch.Tensor) -> None:
    """Put a tensor in the place of a (meta) parameter."""
    owner, _, name = key.rpartition(".")
    setattr(module.get_submodule(owner), name, torch.nn.Parameter(value, requires_grad=False))


def finish(module: torch.nn.Module, device: torch.device | str) -> None:
    """Make what no file holds: tied weights, and the rotary table, which a meta build leaves without values."""
    tie: Any = getattr(module, "tie_weights", None)
    if tie is not None:
        tie()
    rope: Any = getattr(module, "rope", None)
    if rope is not None:
        fresh = type(rope)(rope.attention_head_dim, rope.patch_size, rope.max_seq_len)
        module.rope = fresh.to(device)


def _stored_config(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in config.items() if not key.startswith("_")}
