"""Models and LoRAs that lie on another machine, by their names: request → `Weights` and `LoraPlan`s. No torch.

The catalog knows how ComfyUI's files are called; nothing has to be here. Imported by the ComfyUI backend and its doors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models import catalog
from wan2_i2v.models.book import LoraEntry, book
from wan2_i2v.models.formats.identify import noise_hint
from wan2_i2v.models.found import found_models
from wan2_i2v.models.lora.choosing import named, split
from wan2_i2v.plan import LoraPlan
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelFiles, Weights
from wan2_i2v.schedule import Expert


def files_of(name: str) -> Weights:
    """What the files of a model are called in ComfyUI's folders.

    Raises InvalidRequest for a model that ComfyUI cannot load, CheckpointError for a name that nobody knows.
    """
    base, _, variant = name.partition(":")
    known = book()
    if base in known.models:
        entry = known.models[base]
        if not entry.repo and not entry.folder:
            entries = catalog.files_of(known, base, variant)
            named_here = entry.named().items()
            return Weights(
                **{role: _name(entries[role].name if role in entries else text) for role, text in named_here}
            )
    elif name in found_models():
        return _of_places(found_models()[name])
    elif Path(name).expanduser().is_file():
        return Weights(checkpoint=Path(name).name)
    elif name not in catalog.BUILTIN and not Path(name).expanduser().is_dir():
        catalog.look(name)  # says that nobody knows it, and what is near
    allowed = f"with --backend comfyui: {', '.join(names())}, or a row of models.toml that names single files"
    raise InvalidRequest("model", name, allowed, "ComfyUI loads single files, no folders in diffusers layout.")


def names() -> list[str]:
    """The rows of the catalog that ComfyUI can load."""
    return [name for name, entry in book().models.items() if not entry.repo and not entry.folder]


def model_of(files: Weights) -> str:
    """The name of the model whose files these are; those that `files` does not name may be any.

    Raises CheckpointError where no row has them, with the row to write.
    """
    wanted = {role: PurePosixPath(name.replace("\\", "/")).name for role, name in files.named().items()}
    for base in names():
        for variant in book().models[base].variants or ("",):
            name = f"{base}:{variant}" if variant and variant != book().models[base].variants[0] else base
            has = files_of(name).named()
            if all(has.get(role) == file for role, file in wanted.items()):
                return name
    row = ", ".join(f'{role} = "{file}"' for role, file in wanted.items())
    raise CheckpointError(
        f"no model of the catalog has these files: {row}. Say --model, or add a row to models.toml; see docs/models.md."
    )


def sources() -> dict[str, str]:
    """Where every file of the catalog is usually got from, by its name."""
    known = book()
    return {
        (named := entry.of(variant)).name: f"https://huggingface.co/{named.repo}/blob/main/{named.path}"
        for entry in known.files.values()
        for variant in (entry.variants or ("",))
    }


def loras(request: GenerateRequest, *, merged: bool) -> tuple[LoraPlan, ...]:
    """Every LoRA of a request on every expert that it acts on, by its name on the server.

    The file's own name says which expert it is for, where the request does not. Raises InvalidRequest.
    """
    return tuple(_loras(request, merged))


def _loras(request: GenerateRequest, merged: bool) -> Iterator[LoraPlan]:
    for field, text in named(request):
        name, strength = split(field, text)
        row = book().loras.get(name)
        files = _row_files(row) if row else {"both": name}
        if merged and (field != "loras" or "both" not in files):
            raise InvalidRequest(field, text, "a --lora for one merged expert, which has no high and low")
        factor = (row.strength if row else 1.0) if strength is None else strength
        for side, file in files.items():
            for expert in _experts(field, side, file, merged):
                about = f"{file} × {factor:g}: by its name, on the ComfyUI server"
                yield _lora(expert, file, factor, about, (row.recipe or "") if row else "")


def _lora(expert: Expert, file: str, strength: float, about: str, recipe: str) -> LoraPlan:
    return LoraPlan(
        expert=expert,
        path=file,
        fingerprint="",
        strength=strength,
        matched=0,
        unmatched=0,
        bytes=0,
        about=about,
        recipe=recipe,
    )


def _experts(field: str, side: str, file: str, merged: bool) -> tuple[Expert, ...]:
    if merged:
        return ("single",)
    said = side if side != "both" else noise_hint(Path(file))
    chosen: dict[str, tuple[Expert, ...]] = {"loras_high": ("high",), "loras_low": ("low",)}
    if field in chosen:
        return chosen[field] if side in ("both", chosen[field][0]) else ()
    return ("high",) if said == "high" else ("low",) if said == "low" else ("high", "low")


def _row_files(row: LoraEntry) -> dict[str, str]:
    files = book().files
    return {side: files[name].name if name in files else _name(name) for side, name in row.roles().items()}


def _of_places(files: ModelFiles) -> Weights:
    if files.transformer == files.vae:
        return Weights(checkpoint=files.transformer.name)
    expert = {"merged": files.transformer.name}
    if files.transformer_2 is not None:
        expert = {"high": files.transformer.name, "low": files.transformer_2.name}
    return Weights(**expert, text_encoder=files.text_encoder.name, vae=files.vae.name)


def _name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name
