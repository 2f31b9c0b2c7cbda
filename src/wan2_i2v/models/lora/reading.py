"""One LoRA file read for one transformer: `read_lora(spec, module)` → branches, deltas and a report.

Every stored tensor ends up matched or in the report with the reason why not. Nothing is computed here: tensors stay
views of the mapped file. Scale of a low-rank pair: alpha / rank (1 without alpha), times the user's strength.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models.formats.files import Reader, open_reader
from wan2_i2v.models.formats.headers import Header, read_header
from wan2_i2v.models.formats.identify import expect, noise_hint
from wan2_i2v.models.lora.branch import Branch
from wan2_i2v.models.lora.names import Grouped, LayerNames, group, made_for, other_kind, style

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
    style: str
    matched: tuple[str, ...]
    unmatched: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for people; unmatched names are counted by reason."""
        total = len(self.matched) + len(self.unmatched)
        reasons = sorted({reason for _, reason in self.unmatched})
        left = f"; {len(self.unmatched)} not used ({'; '.join(reasons[:3])})" if self.unmatched else ""
        notes = "".join(f". {note}" for note in self.notes)
        used = f"{len(self.matched)} of {total} tensors match"
        return f"{self.path.name} × {self.strength:g}: {used} ({self.style} names){left}{notes}"


@dataclass
class LoadedLora:
    """What a file adds: branches by linear layer, deltas by parameter."""

    branches: dict[str, Branch] = field(default_factory=dict)
    deltas: dict[str, list[Delta]] = field(default_factory=dict)
    matched: list[str] = field(default_factory=list)
    unmatched: list[tuple[str, str]] = field(default_factory=list)


class _Misfit(Exception):
    """A layer's tensors cannot act on this model; the text says why."""


def read_lora(spec: LoraSpec, module: torch.nn.Module, expert: str | None) -> tuple[LoadedLora, LoraReport]:
    """Match a file's tensors with the transformer's layers.

    Raises InvalidRequest for a strength that is no number; CheckpointError when the file is no LoRA, is another kind of
    adapter, or matches nothing.
    """
    if not math.isfinite(spec.strength):
        raise InvalidRequest("lora strength", spec.strength, "a finite number, 1.0 as trained")
    header = read_header(spec.path)
    expect(header, "lora")
    kind = other_kind(header.tensors)
    if kind:
        raise CheckpointError(f"{spec.path} is {kind}, which is not supported. Get a plain LoRA.")
    grouped = group(header.tensors)
    loaded = _match(spec, header, grouped, module)
    if not loaded.matched:
        raise CheckpointError(_nothing_matched(spec.path, header, loaded))
    report = LoraReport(
        spec.path,
        spec.strength,
        style(header.tensors),
        tuple(loaded.matched),
        tuple(loaded.unmatched),
        _notes(spec.path, expert),
    )
    return loaded, report


def _match(spec: LoraSpec, header: Header, grouped: Grouped, module: torch.nn.Module) -> LoadedLora:
    reader = open_reader(header)
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    names = LayerNames(shapes)
    scale_of = _peft_scale(header)
    loaded = LoadedLora(unmatched=[(name, "of a kind that is not known") for name in grouped.unknown])
    taken: set[str] = set()
    for layer, roles in grouped.layers.items():
        target = names.find(layer)
        try:
            if target is None:
                raise _Misfit("no such layer in this model")
            if target in taken:
                raise _Misfit("names a layer a second time")
            layer_of_file = _Layer(reader, roles, spec.strength, scale_of(target))
            linear = None if target in shapes else module.get_submodule(target)
            if isinstance(linear, torch.nn.Linear):
                loaded.branches[target] = layer_of_file.branch((linear.out_features, linear.in_features))
            else:
                for key, delta in layer_of_file.deltas(target, shapes):
                    loaded.deltas.setdefault(key, []).append(delta)
        except _Misfit as misfit:
            loaded.unmatched += [(name, str(misfit)) for name in sorted(roles.values())]
        else:
            taken.add(target)
            loaded.matched += sorted(roles.values())
    return loaded


class _Layer:
    """The stored tensors of one layer and what they add. Methods raise _Misfit when they do not fit the model's."""

    def __init__(self, reader: Reader, roles: Mapping[str, str], strength: float, scale: float) -> None:
        self._tensors = {role: reader.read(name) for role, name in roles.items()}
        self._strength = strength
        self._scale = scale

    def branch(self, shape: tuple[int, int]) -> Branch:
        """For a linear layer of `shape` (out, in)."""
        down, up = self._pair()
        if down is not None and up is not None and (up.shape[0], down.shape[1]) != shape:
            raise _Misfit(f"made for a layer of {up.shape[0]} × {down.shape[1]}, this one is {shape[0]} × {shape[1]}")
        diff = self._like("diff", shape)
        bias = self._like("bias", shape[:1])
        up_bias = self._like("up_bias", shape[:1])
        if down is None and diff is None and bias is None:
            raise _Misfit("has no tensor that acts")
        return Branch(self._strength, self._factor(down), down, up, diff, bias, up_bias)

    def deltas(self, target: str, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, Delta]]:
        """For a layer that is no Linear (norms, modulation, the patch convolution): changes of whole parameters."""
        weight, bias = (target, "") if target in shapes else (f"{target}.weight", f"{target}.bias")
        found: list[tuple[str, Delta]] = []
        down, up = self._pair()
        if down is not None and up is not None:
            if up.shape[0] * down.shape[1] != math.prod(shapes[weight]):
                raise _Misfit(f"made for another shape than {shapes[weight]}")
            product = (up.float() @ down.float()).reshape(shapes[weight])
            found.append((weight, (product, self._strength * self._factor(down))))
        diff = self._like("diff", shapes[weight])
        if diff is not None:
            found.append((weight, (diff, self._strength)))
        if self._tensors.keys() & {"bias", "up_bias"} and bias not in shapes:
            raise _Misfit("changes a bias that this layer does not have")
        for role, factor in (("bias", 1.0), ("up_bias", self._factor(down))):
            change = self._like(role, shapes.get(bias, ()))
            if change is not None:
                found.append((bias, (change, self._strength * factor)))
        if not found:
            raise _Misfit("has no tensor that acts")
        return found

    def _pair(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """down (rank, in) and up (out, rank), or neither."""
        down, up = self._tensors.get("down"), self._tensors.get("up")
        if (down is None) != (up is None):
            raise _Misfit("half of a low-rank pair")
        if down is None or up is None:
            return None, None
        down, up = down.flatten(1), up.flatten(1)
        if down.shape[0] != up.shape[1]:
            raise _Misfit(f"a low-rank pair of unequal ranks {down.shape[0]} and {up.shape[1]}")
        return down, up

    def _like(self, role: str, shape: tuple[int, ...]) -> torch.Tensor | None:
        tensor = self._tensors.get(role)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise _Misfit(f"made for {tuple(tensor.shape)}, this one is {shape}")
        return tensor

    def _factor(self, down: torch.Tensor | None) -> float:
        if down is None:
            return 1.0
        if "alpha" in self._tensors:
            return float(self._tensors["alpha"]) / down.shape[0]
        return self._scale


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


def _notes(path: Path, expert: str | None) -> tuple[str, ...]:
    hint = noise_hint(path)
    if hint is None or expert in (None, "single", hint):
        return ()
    return (f"its name says {hint} noise and it is used on the {expert}-noise expert",)


def _nothing_matched(path: Path, header: Header, loaded: LoadedLora) -> str:
    names = sorted(header.tensors)
    foreign = made_for(names)
    reasons = sorted({reason for _, reason in loaded.unmatched if reason.startswith("made for")})
    if foreign:
        why = f"it was made for {foreign}"
    elif reasons:
        why = f"its layers have other sizes ({reasons[0]}): it was made for another Wan model"
    else:
        why = f"none of its names is known (first: {names[0]})"
    return (
        f"{path} changes nothing in this model: {why}. Its {len(names)} tensors have {style(names)} names. "
        "Get a LoRA for Wan2.2 (or Wan 2.1) 14B."
    )
