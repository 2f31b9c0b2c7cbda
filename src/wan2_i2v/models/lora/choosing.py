"""The LoRAs that a request names → what each expert gets, matched from headers before any weight loads. No torch.

A name is `FILE[:strength]`: a path, a row of the catalog, or a file in ComfyUI's loras folder (with or without its
ending). `loras` go to the expert that the file's own name speaks of, else to both. Imported by the API.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wan2_i2v.errors import InvalidRequest, nearest
from wan2_i2v.models import catalog, shelf
from wan2_i2v.models.book import MAX_STRENGTH, LoraEntry, book
from wan2_i2v.models.formats.configs import transformer_config, transformer_shapes
from wan2_i2v.models.formats.headers import fingerprint, read_header
from wan2_i2v.models.formats.identify import noise_hint
from wan2_i2v.models.lora.matching import expert_notes, match_file
from wan2_i2v.plan import LoraPlan
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow
from wan2_i2v.schedule import Expert


@dataclass(frozen=True)
class _Wanted:
    """One file on one expert."""

    expert: Expert
    path: Path
    strength: float
    recipe: str


def choose(request: GenerateRequest, model: ModelRow) -> tuple[LoraPlan, ...]:
    """Every LoRA of a request on every expert that it acts on, in the order given.

    Raises InvalidRequest for a name or strength that cannot be, CheckpointError for a file that is not here, is no LoRA
    or changes nothing in this model.
    """
    return tuple(_planned(wanted, model) for wanted in _wanted(request, model))


def named(request: GenerateRequest) -> Iterator[tuple[str, str]]:
    """The LoRAs of a request: the field that each stands in, and its text."""
    for field in ("loras", "loras_high", "loras_low"):
        yield from ((field, text) for text in getattr(request, field))


def _wanted(request: GenerateRequest, model: ModelRow) -> Iterator[_Wanted]:
    merged = model.boundary_ratio is None
    for field, text in named(request):
        name, strength = split(field, text)
        if merged and field != "loras":
            raise InvalidRequest(field, text, f"nothing: {model.name} is one merged expert", "Use --lora.")
        row = book().loras.get(name)
        files = _row_files(field, text, name, row, merged) if row else {"both": _find(field, name)}
        trained = row.strength if row else 1.0
        factor = trained if strength is None else strength
        for side, path in files.items():
            recipe = row.recipe or "" if row else ""
            yield from (_Wanted(expert, path, factor, recipe) for expert in _experts(field, side, path, merged))


def _experts(field: str, side: str, path: Path, merged: bool) -> tuple[Expert, ...]:
    if merged:
        return ("single",)
    said = side if side != "both" else noise_hint(path)
    if field == "loras_high":
        return ("high",) if side != "low" else ()
    if field == "loras_low":
        return ("low",) if side != "high" else ()
    return ("high",) if said == "high" else ("low",) if said == "low" else ("high", "low")


def split(field: str, text: str) -> tuple[str, float | None]:
    """`FILE:0.8` → the file and 0.8; what does not end in a number is a name as a whole."""
    name, colon, end = text.rpartition(":")
    try:
        strength = float(end) if colon and name else None
    except ValueError:
        strength = None
    if strength is None:
        return text, None
    if not math.isfinite(strength) or abs(strength) > MAX_STRENGTH:
        raise InvalidRequest(field, text, f"a strength from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}, 1 as trained")
    return name, strength


def _row_files(field: str, text: str, name: str, row: LoraEntry, merged: bool) -> dict[str, Path]:
    """The files of a catalog row by side."""
    if merged and not row.both:
        raise InvalidRequest(field, text, "a LoRA for one merged expert", f"{name} is a pair for two experts.")
    return {file.role: file.path for file in catalog.lora_here(name) if file.path is not None}


def _find(field: str, name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path.absolute()
    root = shelf.comfyui_models()
    folder = root / "loras" if root else Path()
    files = shelf.weight_files(folder) if root else []
    here = next((file for file in files if name in (file.name, file.stem, str(file.relative_to(folder)))), None)
    if here is None:
        beside = [str(file) for file in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
        known = [*book().loras, *(file.stem for file in files), *beside]
        raise InvalidRequest(field, name, "FILE[:strength], a file or a name of the catalog", nearest(name, known))
    return here


def _planned(wanted: _Wanted, model: ModelRow) -> LoraPlan:
    matching = match_file(wanted.path, _shapes(model))
    return LoraPlan(
        expert=wanted.expert,
        path=str(wanted.path),
        fingerprint=fingerprint(matching.header),
        strength=wanted.strength,
        matched=len(matching.matched),
        unmatched=len(matching.unmatched),
        bytes=sum(matching.header.tensors[name].nbytes for name in matching.matched),
        about=f"{wanted.path.name} × {wanted.strength:g}: "
        + ". ".join((matching.describe(), *expert_notes(wanted.path, wanted.expert))),
        recipe=wanted.recipe,
    )


def _shapes(model: ModelRow) -> dict[str, tuple[int, ...]]:
    """The parameters of the row's experts. Heads do not matter: they divide no shape."""
    return transformer_shapes(
        transformer_config({})
        | {
            "num_attention_heads": 1,
            "attention_head_dim": model.dim,
            "ffn_dim": model.ffn_dim,
            "num_layers": model.num_layers,
            "text_dim": model.text_dim,
        }
    )


def check_unchanged(loras: Iterable[LoraPlan]) -> None:
    """Raise InvalidRequest when a file is not the one that a job was begun with, CheckpointError when it is gone."""
    for lora in loras:
        if fingerprint(read_header(Path(lora.path))) != lora.fingerprint:
            raise InvalidRequest(
                "loras", lora.path, "the file that the job was begun with", "It has changed since; start the job anew."
            )
