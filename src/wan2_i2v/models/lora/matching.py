"""Which stored tensors of a LoRA file act on which layers of a transformer, from names and shapes alone. No torch.

Comes in: a file and the transformer's parameter shapes. Goes out: `Matching`, or one error that says what the file is.
The plan reports it before any weight loads; `reading` makes branches of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.configs import Shapes
from wan2_i2v.models.formats.encodings import FLOAT_TYPES, FP8_TYPES
from wan2_i2v.models.formats.headers import Header, read_header
from wan2_i2v.models.formats.identify import expect, noise_hint
from wan2_i2v.models.lora.names import LayerNames, group, made_for, other_kind, style

Shape = tuple[int, ...]

UNKNOWN, NO_LAYER = "of a kind that is not known", "no such layer in this model"


@dataclass(frozen=True)
class Matching:
    """`layers`: a layer's (or bare parameter's) own name → role → stored name. Every stored tensor is in `matched`, or in
    `unmatched` with the reason."""

    header: Header
    layers: Mapping[str, Mapping[str, str]]
    matched: tuple[str, ...]
    unmatched: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """How much of the file acts; unmatched names are counted by reason."""
        total = len(self.matched) + len(self.unmatched)
        reasons = sorted({reason for _, reason in self.unmatched})
        left = f"; {len(self.unmatched)} not used ({'; '.join(reasons[:3])})" if self.unmatched else ""
        return f"{len(self.matched)} of {total} tensors match ({style(self.header.tensors)} names){left}"


class _Misfit(Exception):
    """A layer's tensors cannot act on this model; the text says why."""


def match_file(path: Path, shapes: Shapes) -> Matching:
    """Match a file with a transformer whose parameters have `shapes`.

    Raises CheckpointError when the file is no LoRA, is another kind of adapter, or matches nothing.
    """
    header = read_header(path)
    expect(header, "lora")
    kind = other_kind(header.tensors)
    if kind:
        raise CheckpointError(f"{path} is {kind}, which is not supported. Get a plain LoRA.")
    matching = _match(header, shapes)
    if not matching.matched:
        raise CheckpointError(_nothing_matched(matching))
    return matching


def is_linear(target: str, shapes: Shapes) -> bool:
    """Whether a layer of a Wan transformer is a linear one: those alone have weights with two sides."""
    return target not in shapes and len(shapes.get(f"{target}.weight", ())) == 2


def parameters(target: str, shapes: Shapes) -> tuple[str, str]:
    """The names of a layer's weight and bias; of a bare parameter, itself and nothing."""
    return (target, "") if target in shapes else (f"{target}.weight", f"{target}.bias")


def _match(header: Header, shapes: Shapes) -> Matching:
    names, grouped = LayerNames(shapes), group(header.tensors)
    layers: dict[str, Mapping[str, str]] = {}
    matched: list[str] = []
    unmatched = [(name, UNKNOWN) for name in grouped.unknown]
    for layer, roles in grouped.layers.items():
        target = names.find(layer)
        try:
            if target is None:
                raise _Misfit(NO_LAYER)
            if target in layers:
                raise _Misfit("names a layer a second time")
            _check_stored(header, roles)
            _check({role: header.tensors[name].shape for role, name in roles.items()}, target, shapes)
        except _Misfit as misfit:
            unmatched += [(name, str(misfit)) for name in sorted(roles.values())]
        else:
            layers[target] = roles
            matched += sorted(roles.values())
    return Matching(header, layers, tuple(matched), tuple(unmatched))


def _check_stored(header: Header, roles: Mapping[str, str]) -> None:
    """Raise _Misfit for tensors that are no plain numbers to multiply with, and an alpha that is not one number."""
    for role, name in roles.items():
        info = header.tensors[name]
        if role == "alpha":
            if math.prod(info.shape) != 1:
                raise _Misfit("its alpha is not one number")
        elif info.dtype not in FLOAT_TYPES + FP8_TYPES:
            raise _Misfit(f"stored as {info.dtype}, which is not read in a LoRA")


def _check(given: Mapping[str, Shape], target: str, shapes: Shapes) -> None:
    """Raise _Misfit when the tensors of a layer, by role, do not fit the model's layer."""
    weight, bias = parameters(target, shapes)
    pair = _pair(given)
    if is_linear(target, shapes):
        whole = shapes[weight]
        if pair and pair != whole:
            raise _Misfit(f"made for a layer of {pair[0]} × {pair[1]}, this one is {whole[0]} × {whole[1]}")
        wanted = {"diff": whole, "bias": whole[:1], "up_bias": whole[:1]}
    else:
        if pair and math.prod(pair) != math.prod(shapes[weight]):
            raise _Misfit(f"made for another shape than {shapes[weight]}")
        if given.keys() & {"bias", "up_bias"} and bias not in shapes:
            raise _Misfit("changes a bias that this layer does not have")
        wanted = {"diff": shapes[weight], "bias": shapes.get(bias, ()), "up_bias": shapes.get(bias, ())}
    for role, shape in wanted.items():
        if given.get(role, shape) != shape:
            raise _Misfit(f"made for {given[role]}, this one is {shape}")
    if not pair and not given.keys() & {"diff", "bias"}:
        raise _Misfit("has no tensor that acts")


def _pair(given: Mapping[str, Shape]) -> tuple[int, int] | None:
    """(out, in) of the product of a low-rank pair, None without one."""
    down, up = given.get("down"), given.get("up")
    if (down is None) != (up is None):
        raise _Misfit("half of a low-rank pair")
    if down is None or up is None:
        return None
    if down[0] != math.prod(up[1:]):
        raise _Misfit(f"a low-rank pair of unequal ranks {down[0]} and {math.prod(up[1:])}")
    if not down[0]:
        raise _Misfit("a low-rank pair of rank 0")
    return up[0], math.prod(down[1:])


def expert_notes(path: Path, expert: str | None) -> tuple[str, ...]:
    """What is odd about using a file of this name on this expert."""
    hint = noise_hint(path)
    if hint is None or expert in (None, "single", hint):
        return ()
    return (f"its name says {hint} noise and it is used on the {expert}-noise expert",)


def _nothing_matched(matching: Matching) -> str:
    names = sorted(matching.header.tensors)
    foreign = made_for(names)
    known = sorted({reason for _, reason in matching.unmatched} - {UNKNOWN, NO_LAYER})
    sizes = [reason for reason in known if reason.startswith("made for")]
    if foreign:
        why = f"it was made for {foreign}"
    elif sizes:
        why = f"its layers have other sizes ({sizes[0]}): it was made for another Wan model"
    elif known:
        why = f"its layers are known and what it has for them cannot be used ({'; '.join(known[:3])})"
    else:
        why = f"none of its names is known (first: {names[0]})"
    return (
        f"{matching.header.path} changes nothing in this model: {why}. Its {len(names)} tensors have {style(names)} names. "
        "Get a LoRA for Wan2.2 (or Wan 2.1) 14B."
    )
