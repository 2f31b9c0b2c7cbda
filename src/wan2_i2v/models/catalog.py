"""Which checkpoints exist: a name or a folder → `ModelRow`. Reads config files and headers of weight files; no torch.

A name is that of the package's own model, of a row of the catalog (`a14b-gguf:Q8_0`: with a variant), of a pair of
experts or an all-in-one file found in ComfyUI's folders, or a path. Imported by doors and the pipeline's entry.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wan2_i2v import geometry
from wan2_i2v.errors import CheckpointError, nearest
from wan2_i2v.models import facts, shelf
from wan2_i2v.models.book import BUILTIN_NAME, Book, FileEntry, ModelEntry, book
from wan2_i2v.models.facts import MINI
from wan2_i2v.models.formats.identify import identify
from wan2_i2v.models.found import found_models
from wan2_i2v.rows import ModelFiles, ModelRow

BUILTIN = {BUILTIN_NAME: MINI}

A14B_EXPERT, UMT5_XXL, WAN_VAE = 14_288_901_184, 5_680_910_336, 126_892_531
"""Numbers of weights, counted on the architectures of the libraries."""


def names() -> tuple[str, ...]:
    """Every name that `look` knows, in the catalog's order, those found in ComfyUI's folders last."""
    known = [*BUILTIN, *book().models]
    return (*known, *(name for name in found_models() if name not in known))


def find(name: str) -> ModelRow:
    """The row of a checkpoint that is here, complete and undamaged.

    Raises CheckpointError when nothing of that name exists, naming the file that is missing or damaged, or saying how to
    get what is not here.
    """
    row = look(name)
    if row.files is None:
        absent = ", ".join(missing(name)) or "all of it"
        raise CheckpointError(f"model {row.name} is not here ({absent}). Get it: wan2-i2v models pull {row.name}")
    return row


def look(name: str) -> ModelRow:
    """The row of a checkpoint, with `files` None when it is known and not all of it is here.

    Raises CheckpointError as `find` otherwise.
    """
    if name in BUILTIN:
        if not BUILTIN[name].is_dir():
            raise CheckpointError(f"model {name!r}: {BUILTIN[name]} is missing. Install the package again.")
        return facts.read_folder(name, BUILTIN[name].resolve())
    base, _, variant = name.partition(":")
    known = book()
    if base in known.models:
        return _entry_row(known, base, variant)
    found = found_models().get(name)
    if found is not None:
        return facts.read(name, found, _defaults(found))
    return _path_row(name)


def missing(name: str) -> list[str]:
    """The file names of a catalog row that are not on this machine; empty for what is no row."""
    base, _, variant = name.partition(":")
    known = book()
    if base not in known.models:
        return []
    entries = files_of(known, base, variant)
    return [entry.name for entry in entries.values() if shelf.locate(entry) is None]


class LoraFile(NamedTuple):
    """One file of a LoRA's row: high, low or both, what it is called, and where it is; None when it is not here."""

    role: str
    name: str
    path: Path | None


def lora_files(name: str) -> list[LoraFile]:
    """The files of a LoRA that has a row. Raises CheckpointError for a path of the user's that leads nowhere."""
    known = book()
    found = []
    for role, named in known.loras[name].roles().items():
        entry = known.files.get(named)
        place = _place(f"LoRA {name!r}", role, named, entry)
        found.append(LoraFile(role, entry.name if entry else Path(named).name, place))
    return found


def lora_here(name: str) -> list[LoraFile]:
    """The files of a LoRA that has a row, every one of them here. Raises CheckpointError when one is not."""
    files = lora_files(name)
    absent = [file.name for file in files if file.path is None]
    if absent:
        raise CheckpointError(f"LoRA {name} is not here ({', '.join(absent)}). Get it: wan2-i2v models pull {name}")
    return files


def own_paths(name: str) -> list[Path]:
    """The files that a row names by their paths. Raises CheckpointError for one that leads nowhere."""
    base, known = name.partition(":")[0], book()
    entry = known.models.get(base) or known.loras[name]
    own = {role: named for role, named in entry.roles().items() if named not in known.files}
    return [_own_path(repr(base), role, named) for role, named in own.items()]


def files_of(known: Book, base: str, variant: str) -> dict[str, FileEntry]:
    """The catalog's files that a row uses, by role; a variant that the row does not have is refused."""
    entry = known.models[base]
    chosen = _variant(base, entry, variant)
    return {role: known.files[named].of(chosen) for role, named in entry.roles().items() if named in known.files}


def again(name: str, files: ModelFiles) -> ModelRow:
    """The row of a checkpoint that a stored plan names: by its name when that is known here, else where it was.

    Raises CheckpointError as `find`.
    """
    base = name.partition(":")[0]
    if base in BUILTIN or (base in book().models and look(name).files is not None):
        return find(name)
    return facts.read(name, files, _defaults(files))


def _defaults(files: ModelFiles) -> facts.Defaults:
    """Sampling defaults of weights that no row speaks of: those of A14B's experts, or of a merged, distilled one."""
    return facts.Defaults(None, "rapid") if files.transformer_2 is None else facts.Defaults(0.9, "official")


def _variant(base: str, entry: ModelEntry, variant: str) -> str:
    if variant and variant not in entry.variants:
        allowed = f"one of {', '.join(entry.variants)}" if entry.variants else "none"
        raise CheckpointError(f"model {base!r} has no variant {variant!r}; allowed: {allowed}.")
    return variant or (entry.variants[0] if entry.variants else "")


def _entry_row(known: Book, base: str, variant: str) -> ModelRow:
    entry = known.models[base]
    chosen = _variant(base, entry, variant)
    name = f"{base}:{chosen}" if chosen else base
    defaults = facts.Defaults(entry.boundary, entry.recipe)
    if entry.repo or entry.folder:
        folder = Path(entry.folder).expanduser() if entry.folder else _repo_folder(entry.repo)
        return facts.read_folder(name, folder, defaults) if folder else _absent(name, entry, 0)
    files = files_of(known, base, chosen)
    places = {role: _place(f"model {base!r}", role, named, files.get(role)) for role, named in entry.roles().items()}
    if any(place is None for place in places.values()):
        return _absent(name, entry, _packed_bytes(known, entry, files))
    return facts.read(
        name, _model_files(base, entry, {role: Path(str(place)) for role, place in places.items()}), defaults
    )


def _place(whose: str, role: str, named: str, entry: FileEntry | None) -> Path | None:
    """Where a row's file is; None when it is a file of the catalog that is not here.

    Raises CheckpointError for a path of the user's that leads nowhere.
    """
    return _own_path(whose, role, named) if entry is None else shelf.locate(entry)


def _own_path(whose: str, role: str, named: str) -> Path:
    path = Path(named).expanduser()
    if not path.exists():
        raise CheckpointError(
            f"{whose}: {role} is {named!r}, which is neither a path nor a file of the catalog "
            f"({nearest(named, book().files)}) Correct models.toml."
        )
    return path.absolute()


def _model_files(base: str, entry: ModelEntry, places: dict[str, Path]) -> ModelFiles:
    whole = places.get("checkpoint")
    expert = places.get("high") or places.get("merged") or whole
    text, vae = places.get("text_encoder") or whole, places.get("vae") or whole
    if expert is None or text is None or vae is None:
        raise CheckpointError(
            f"model {base!r} lacks parts: name high and low (or merged), text_encoder and vae, or checkpoint for one file "
            "with all of them."
        )
    if (places.get("low") is None) != (entry.boundary is None):
        raise CheckpointError(
            f"model {base!r}: two experts (high and low) go with a boundary, one merged goes without."
        )
    return ModelFiles(
        transformer=expert,
        transformer_2=places.get("low"),
        text_encoder=text,
        vae=vae,
        tokenizer=places.get("tokenizer"),
        configs=Path(entry.configs).expanduser().absolute() if entry.configs else None,
    )


def _repo_folder(repo: str) -> Path | None:
    """The folder of a repository in diffusers layout, None when it is not here or not whole."""
    downloaded = shelf.download_folder(repo)
    if (downloaded / "model_index.json").is_file():
        return downloaded
    index = shelf.cached(repo, "model_index.json")
    return index.parent if index else None


def _path_row(name: str) -> ModelRow:
    """A folder in diffusers layout, or an all-in-one file."""
    path = Path(name).expanduser()
    if path.is_dir():
        return facts.read_folder(path.name, path.resolve())
    if path.is_file():
        identity = identify(path)
        if identity.parts == ("transformer",):
            raise CheckpointError(
                f"{path} is {identity.named} alone, and a model is one with its text encoder and VAE. Name it in models.toml "
                "as high, low or merged beside the other parts, or put it into ComfyUI's folders; see docs/models.md."
            )
        files = ModelFiles(transformer=path.absolute(), text_encoder=path.absolute(), vae=path.absolute())
        return facts.read(path.stem, files, _defaults(files))
    raise CheckpointError(
        f"model {name!r} is neither in the catalog nor a folder. {nearest(name, names())} Give a catalog name (wan2-i2v "
        "models list), the folder of a checkpoint in diffusers layout, or an all-in-one file."
    )


def _packed_bytes(known: Book, entry: ModelEntry, files: dict[str, FileEntry]) -> int:
    """An absent expert's bytes as stored; of a variant of unknown size, those of the largest known one."""
    named = entry.high or entry.merged
    if named not in known.files:
        return 0
    return files[next(role for role in ("high", "merged") if role in files)].bytes or max(
        known.files[named].variants.values(), default=0
    )


def _absent(name: str, entry: ModelEntry, packed_bytes: int) -> ModelRow:
    """A row whose files are not here, from what is known of A14B: enough for a plan."""
    return ModelRow(
        name=name,
        files=None,
        fingerprint="",
        boundary_ratio=entry.boundary,
        default_recipe=entry.recipe,
        sizes=geometry.WAN_SIZES,
        trained_fps=16,
        trained_frames=81,
        expert_parameters=A14B_EXPERT,
        text_parameters=UMT5_XXL,
        vae_parameters=WAN_VAE,
        dim=5120,
        ffn_dim=13824,
        num_layers=40,
        text_dim=4096,
        vae_base_dim=96,
        vae_patch=1,
        packed_bytes=packed_bytes,
    )
