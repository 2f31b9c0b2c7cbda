"""One LoRA file read for one transformer: `read_lora(spec, shapes)` → branches, deltas and a report.

Which tensor belongs where is settled in `matching`. Nothing is computed here: tensors stay views of the mapped file.
Scale of a low-rank pair: alpha / rank (1 without alpha), times the user's strength.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.models.formats.configs import Shapes
from wan2_i2v.models.formats.files import open_reader
from wan2_i2v.models.formats.headers import Header
from wan2_i2v.models.lora.branch import Branch
from wan2_i2v.models.lora.matching import Matching, expert_notes, is_linear, match_file, parameters
from wan2_i2v.models.lora.names import style

Delta = tuple[torch.Tensor, float]

_PEFT = "lora_adapter_metadata"
"""Key of the metadata in which diffusers stores PEFT's configuration (alpha, rank) as JSON."""


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA file and how strongly it acts; 1 as trained, 0 not at all, negative the opposite way."""

    path: Path
    strength: float = 1.0


@dataclass(frozen=True)
class LoraReport:
    """What became of one file: stored names that act, and those that do not with the reason."""

    path: Path
    strength: float
    matching: Matching
    notes: tuple[str, ...] = ()

    @property
    def style(self) -> str:
        return style(self.matching.header.tensors)

    @property
    def matched(self) -> tuple[str, ...]:
        return self.matching.matched

    @property
    def unmatched(self) -> tuple[tuple[str, str], ...]:
        return self.matching.unmatched

    def describe(self) -> str:
        """One line for people; unmatched names are counted by reason."""
        notes = "".join(f". {note}" for note in self.notes)
        return f"{self.path.name} × {self.strength:g}: {self.matching.describe()}{notes}"


@dataclass
class LoadedLora:
    """What a file adds: branches by linear layer, deltas by parameter."""

    branches: dict[str, Branch] = field(default_factory=dict)
    deltas: dict[str, list[Delta]] = field(default_factory=dict)


def read_lora(spec: LoraSpec, shapes: Shapes, expert: str | None) -> tuple[LoadedLora, LoraReport]:
    """Read a file for a transformer whose parameters have `shapes`.

    Raises InvalidRequest for a strength that is no number; CheckpointError as `match_file`.
    """
    if not math.isfinite(spec.strength):
        raise InvalidRequest("lora strength", spec.strength, "a finite number, 1.0 as trained")
    matching = match_file(spec.path, shapes)
    reader, scale_of, loaded = open_reader(matching.header), _peft_scale(matching.header), LoadedLora()
    for target, roles in matching.layers.items():
        layer = _Layer({role: reader.read(name) for role, name in roles.items()}, spec.strength, scale_of(target))
        if is_linear(target, shapes):
            loaded.branches[target] = layer.branch()
        else:
            for key, delta in layer.deltas(target, shapes):
                loaded.deltas.setdefault(key, []).append(delta)
    return loaded, LoraReport(spec.path, spec.strength, matching, expert_notes(spec.path, expert))


class _Layer:
    """The stored tensors of one layer by role, known to fit, and what they add."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], strength: float, scale: float) -> None:
        self._tensors, self._strength = tensors, strength
        # down (rank, in) and up (out, rank); convolutions' further sides are folded in.
        self._down, self._up = (tensors[role].flatten(1) if role in tensors else None for role in ("down", "up"))
        self._scale = 1.0 if self._down is None else scale
        if self._down is not None and "alpha" in tensors:
            self._scale = float(tensors["alpha"]) / self._down.shape[0]

    def branch(self) -> Branch:
        """For a linear layer."""
        diff, bias, up_bias = (self._tensors.get(role) for role in ("diff", "bias", "up_bias"))
        return Branch(self._strength, self._scale, self._down, self._up, diff, bias, up_bias)

    def deltas(self, target: str, shapes: Shapes) -> list[tuple[str, Delta]]:
        """For a layer that is no linear one (norms, modulation, the patch convolution): changes of whole parameters."""
        weight, bias = parameters(target, shapes)
        found: list[tuple[str, Delta]] = []
        if self._down is not None and self._up is not None:
            product = (self._up.float() @ self._down.float()).reshape(shapes[weight])
            found.append((weight, (product, self._strength * self._scale)))
        for role, key, factor in (("diff", weight, 1.0), ("bias", bias, 1.0), ("up_bias", bias, self._scale)):
            if role in self._tensors:
                found.append((key, (self._tensors[role], self._strength * factor)))
        return found


def _peft_scale(header: Header) -> Callable[[str], float]:
    """Scale by layer where a file has no alpha tensors: PEFT's from diffusers' metadata, else 1.

    PEFT: alpha / r, with rslora alpha / √r; its patterns override by the end of a layer's name.
    """
    config: dict[str, Any] = json.loads(header.metadata.get(_PEFT) or "{}")
    values = {key.split(".", 1)[1]: value for key, value in config.items() if "." in key}
    if not values.get("lora_alpha") or not values.get("r"):
        return lambda layer: 1.0

    def value(layer: str, patterns: Mapping[str, float], default: float) -> float:
        return next((each for end, each in patterns.items() if f".{layer}".endswith(f".{end}")), default)

    def scale(layer: str) -> float:
        alpha = value(layer, values.get("alpha_pattern") or {}, values["lora_alpha"])
        rank = value(layer, values.get("rank_pattern") or {}, values["r"])
        return alpha / (math.sqrt(rank) if values.get("use_rslora") else rank)

    return scale
