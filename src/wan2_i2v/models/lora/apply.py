"""LoRAs on a transformer for as long as a job needs them: hooks on linear layers, exchanged small parameters.

`apply_loras` reads every file before it touches the module; `AppliedLoras.remove` leaves the module as it was, bit for
bit. A linear layer's weight is never read, so it may be packed, on another device, or not loaded yet. Parameters that
are no linear weight (norms, modulations, the patch convolution) are exchanged for changed copies where they are loaded;
where they are not (meta), `AppliedLoras.adjust(source)` gives a source that hands them out changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch

from wan2_i2v.models.formats.packed import Packed, dequantise
from wan2_i2v.models.formats.source import AdjustedSource, WeightSource
from wan2_i2v.models.lora.branch import Branch
from wan2_i2v.models.lora.reading import Delta, LoraReport, LoraSpec, read_lora

_applied: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()


class AppliedLoras:
    """LoRAs in force on a module. A context manager: leaving it takes them off."""

    def __init__(
        self,
        module: torch.nn.Module,
        reports: Sequence[LoraReport],
        branches: Mapping[str, tuple[Branch, ...]],
        deltas: Mapping[str, tuple[Delta, ...]],
    ) -> None:
        self.reports = tuple(reports)
        self.branches = branches
        self.deltas = deltas
        self._module = module
        self._undo: list[Callable[[], None]] = []
        self._pending: dict[str, tuple[Delta, ...]] = {}
        _applied.add(module)
        for name, layer in branches.items():
            self._undo.append(module.get_submodule(name).register_forward_hook(_hook(layer)).remove)
        for key, changes in deltas.items():
            self._exchange(key, changes)

    @property
    def nbytes(self) -> int:
        """Bytes of all LoRA tensors: what keeping them on the device costs."""
        branches = sum(branch.nbytes for layer in self.branches.values() for branch in layer)
        return branches + sum(delta.nbytes for layer in self.deltas.values() for delta, _ in layer)

    def adjust(self, source: WeightSource) -> WeightSource:
        """The source with deltas added to the parameters that were not loaded yet when the LoRAs were applied."""
        return AdjustedSource(source, self._pending) if self._pending else source

    def remove(self) -> None:
        """Take the LoRAs off; the module is as before. A second call does nothing."""
        while self._undo:
            self._undo.pop()()
        _applied.discard(self._module)

    def _exchange(self, key: str, changes: tuple[Delta, ...]) -> None:
        parameter = self._module.get_parameter(key)
        if parameter.is_meta:
            self._pending[key] = changes
            return
        original = parameter.data
        packed = Packed(original, "F32", tuple(original.shape), deltas=changes).to(original.device)
        parameter.data = dequantise(packed, original.dtype)

        def restore() -> None:
            parameter.data = original

        self._undo.append(restore)

    def __enter__(self) -> AppliedLoras:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def apply_loras(
    module: torch.nn.Module,
    specs: Sequence[LoraSpec],
    *,
    expert: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> AppliedLoras:
    """Put LoRA files on a transformer, all of them or (on any error) none.

    `expert` ("high", "low", "single") is only compared with the files' names, for a note in the report. With `device`
    and `dtype` the LoRA tensors are kept there; without, they stay mapped from disk and each use brings its own over.
    A strength of 0 is checked and reported but adds nothing.

    Raises CheckpointError or InvalidRequest as `read_lora` does; ValueError when the module already has LoRAs on.
    """
    if module in _applied:
        raise ValueError("this module has LoRAs on already; call remove() on those first")
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    reports: list[LoraReport] = []
    branches: dict[str, tuple[Branch, ...]] = {}
    deltas: dict[str, tuple[Delta, ...]] = {}
    for spec in specs:
        loaded, report = read_lora(spec, shapes, expert)
        reports.append(report)
        if spec.strength == 0:
            continue
        for name, branch in loaded.branches.items():
            kept = branch.to(device, dtype) if device is not None and dtype is not None else branch
            branches[name] = (*branches.get(name, ()), kept)
        for key, changes in loaded.deltas.items():
            deltas[key] = (*deltas.get(key, ()), *changes)
    return AppliedLoras(module, reports, branches, deltas)


def _hook(branches: tuple[Branch, ...]) -> Callable[[torch.nn.Module, tuple[Any, ...], torch.Tensor], None]:
    def add(layer: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        for branch in branches:
            branch.add_to(inputs[0], output)

    return add
