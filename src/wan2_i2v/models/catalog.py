"""Which checkpoints exist: name or folder → `ModelRow`. Reads config files and headers of weight files; no torch.

Imported by doors and the pipeline's entry.
"""

from __future__ import annotations

from pathlib import Path

from wan2_i2v.errors import CheckpointError, nearest
from wan2_i2v.models import facts
from wan2_i2v.models.facts import MINI
from wan2_i2v.rows import ModelFiles, ModelRow

BUILTIN = {"mini": MINI}


def find(name: str) -> ModelRow:
    """The row of a catalog name, or of a folder in diffusers layout, complete and undamaged.

    Raises CheckpointError when nothing of that name exists, or naming the file that is missing or damaged.
    """
    folder = BUILTIN.get(name) or Path(name).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f"model {name!r} is neither in the catalog nor a folder{_hint(name)} "
            "Give a catalog name or the folder of a checkpoint in diffusers layout."
        )
    return facts.read_folder(name if name in BUILTIN else folder.name, folder.resolve())


def again(name: str, files: ModelFiles) -> ModelRow:
    """The row of a checkpoint that a stored plan names: by its catalog name, else from the places it had.

    Raises CheckpointError as `find`.
    """
    if name in BUILTIN:
        return find(name)
    return facts.read(name, files, facts.Defaults(None if files.transformer_2 is None else 0.9, "rapid"))


def _hint(name: str) -> str:
    """The nearest catalog name; for a catalog name itself, that its folder is gone."""
    if name in BUILTIN:
        return f": {BUILTIN[name]} is missing. Install the package again."
    return f". {nearest(name, BUILTIN)}"
