"""Which stored tensor is which weight: a header and a part → entries under the module's own names.

Prefixes, original names, fp8 scales and tensors that are no weights are settled here, from names alone. No torch,
except that diffusers is asked for the names of a VAE in original form. Used by `opening` and `identify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wan2_i2v.models.formats import keys
from wan2_i2v.models.formats.headers import Header

_SCALES = (".scale_weight", ".weight_scale")
_HINTS = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
"""Tensors beside the weights that say how to multiply in fp8, which this package does not do."""


@dataclass(frozen=True)
class Entry:
    """Where a weight lies: the stored names of its data and of its fp8 scale."""

    stored: str
    scale: str | None = None


def entries_of(header: Header, part: str, prefix: str) -> dict[str, Entry]:
    """Which stored tensors below `prefix` are which weights of a transformer, VAE or text encoder."""
    names = {name.removeprefix(prefix) for name in header.tensors if name.startswith(prefix)}
    if part == "transformer":
        original = any(".self_attn." in name for name in names)
        return entries(header, prefix, keys.transformer_key if original else _same)
    if part == "vae":
        original = any(name.startswith(("encoder.downsamples.", "decoder.upsamples.")) for name in names)
        back = {old: new for new, old in keys.vae_keys(names).items()} if original else {}
        return entries(header, prefix, back.get)
    ignored = [name for name in names if name.endswith("spiece_model")]
    if any(name.startswith("blocks.") for name in names):
        return entries(header, prefix, keys.umt5_key, ignored)
    if "shared.weight" in names:
        return entries(header, prefix, _same, [*ignored, "encoder.embed_tokens.weight"])
    return entries(header, prefix, {"encoder.embed_tokens.weight": "shared.weight"}.get, ignored)


def _same(name: str) -> str:
    return name


def entries(
    header: Header, prefix: str, rename: Callable[[str], str | None], ignored: Iterable[str] = ()
) -> dict[str, Entry]:
    """Which stored tensors below `prefix` are which weights.

    `rename` gives the module's name of a stored weight; a name it does not know is kept, so that the check against the
    architecture lists it as unexpected. `ignored` are stored names (without prefix) that are no weights.
    """
    names = {name.removeprefix(prefix) for name in header.tensors if name.startswith(prefix)} - set(ignored)
    scales = {name for name in names if name.endswith(_SCALES)}
    found: dict[str, Entry] = {}
    for name in sorted(names - scales):
        if name.endswith(_HINTS):
            continue
        stem = name.removesuffix(".weight")
        scale = next((stem + end for end in _SCALES if name.endswith(".weight") and stem + end in scales), None)
        scales.discard(scale or "")
        found[rename(name) or name] = Entry(prefix + name, scale and prefix + scale)
    return found | {name: Entry(prefix + name) for name in scales}


def part_shapes(header: Header, part: str, prefix: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a part's weights; under the module's own names, but a VAE's stay as stored (that needs no torch)."""
    found = entries(header, prefix, _same) if part == "vae" else entries_of(header, part, prefix)
    return {key: header.tensors[entry.stored].shape for key, entry in found.items()}
