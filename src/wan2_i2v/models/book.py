"""The catalog as data: its own rows from `catalog.toml`, the user's from `models.toml`. No torch, nothing is looked up.

Comes in: TOML. Goes out: `Book`, whose rows name files by an entry of `files` or by a path. Imported by the catalog and
its helpers.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from wan2_i2v.errors import CheckpointError
from wan2_i2v.request import RecipeName
from wan2_i2v.rows import Weights
from wan2_i2v.settings import Settings

OWN = Path(__file__).with_name("catalog.toml")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Row):
    """A file of a repository on the Hub. `bytes` 0 and `sha256` empty are not known; `variants` are sizes by variant."""

    repo: str
    path: str
    bytes: int = 0
    sha256: str = ""
    variants: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    def of(self, variant: str) -> FileEntry:
        """The entry with `{variant}` in its path filled in."""
        if "{variant}" not in self.path:
            return self
        path = self.path.replace("{variant}", variant)
        return FileEntry(repo=self.repo, path=path, bytes=self.variants.get(variant, 0))


class ModelEntry(Weights):
    """A checkpoint: a whole `repo` in diffusers layout, a local `folder` of the same, or files by role.

    `tokenizer` is a folder, or a file that carries one; `configs` a folder in diffusers layout for parts whose shapes do
    not tell enough. `boundary` None means one merged expert.
    """

    title: str = ""
    licence: str = ""
    repo: str = ""
    folder: str = ""
    tokenizer: str = ""
    configs: str = ""
    variants: tuple[str, ...] = ()
    boundary: float | None = None
    recipe: RecipeName = "rapid"

    def roles(self) -> dict[str, str]:
        """What weights are named, and the tokenizer's file, by role."""
        return self.named() | ({"tokenizer": self.tokenizer} if self.tokenizer else {})


class LoraEntry(_Row):
    """A LoRA: `high` and `low` for the two experts, or `both` for either. `recipe` is what it was distilled for."""

    title: str = ""
    licence: str = ""
    high: str = ""
    low: str = ""
    both: str = ""
    strength: float = 1.0
    recipe: RecipeName | None = None

    def roles(self) -> dict[str, str]:
        return {role: named for role in ("high", "low", "both") if (named := getattr(self, role))}


class Book(_Row):
    """All rows by name."""

    files: dict[str, FileEntry] = {}
    models: dict[str, ModelEntry] = {}
    loras: dict[str, LoraEntry] = {}


def book() -> Book:
    """The catalog's rows with the user's.

    Raises CheckpointError for a models.toml that cannot be read, naming the row and what is wrong.
    """
    file = Settings().models_file.expanduser()
    own = _read(OWN, 0)
    if not file.is_file():
        return own
    user = _read(file, file.stat().st_mtime_ns)
    return Book(files=own.files | user.files, models=own.models | user.models, loras=own.loras | user.loras)


def distinct(entries: Iterable[FileEntry]) -> list[FileEntry]:
    """Every file once, in order."""
    return list({(entry.repo, entry.path): entry for entry in entries}.values())


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> Book:
    try:
        return Book(**tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} is no TOML: {error}.") from None
    except ValidationError as error:
        problem: Any = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(f"{file}: {place}: {problem['msg'].lower()}; see docs/models.md.") from None
