"""The catalog as data: its own rows from `catalog.toml`, the user's from `models.toml`. No torch, nothing is looked up.

Comes in: TOML. Goes out: `Book`, whose rows name files by an entry of `files` or by a path. Imported by the catalog and
its helpers.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from wan2_i2v.errors import CheckpointError, nearest
from wan2_i2v.request import RecipeName
from wan2_i2v.rows import Weights
from wan2_i2v.settings import Settings

OWN = Path(__file__).with_name("catalog.toml")

MAX_STRENGTH = 10.0
"""Of a LoRA, either way."""

BUILTIN_NAME = "mini"

RowName = Annotated[str, StringConstraints(pattern=r"^[^:]+$")]
"""What follows a colon is a variant, or a strength."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Row):
    """A file of a repository on the Hub. `bytes` 0 and `sha256` empty are not known; `variants` are sizes by variant."""

    repo: str
    path: str
    bytes: Annotated[int, Field(ge=0)] = 0
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    variants: dict[str, int] = {}

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError("it shall be a file's path inside the repository")
        return value

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
    boundary: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    recipe: RecipeName = "rapid"

    @model_validator(mode="after")
    def _one_place(self) -> ModelEntry:
        expert = bool(self.high or self.low)
        if sum((bool(self.repo), bool(self.folder), expert, bool(self.merged), bool(self.checkpoint))) > 1:
            raise ValueError("it shall name one of these: repo, folder, checkpoint, merged, or high and low")
        return self

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
    strength: Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)] = 1.0
    recipe: RecipeName | None = None

    @model_validator(mode="after")
    def _some_file(self) -> LoraEntry:
        if bool(self.both) == bool(self.high or self.low):
            raise ValueError("it shall name both, or high and low, or one of these two")
        return self

    def roles(self) -> dict[str, str]:
        return {role: named for role in ("high", "low", "both") if (named := getattr(self, role))}


class Book(_Row):
    """All rows by name."""

    files: dict[str, FileEntry] = {}
    models: dict[RowName, ModelEntry] = {}
    loras: dict[RowName, LoraEntry] = {}

    @field_validator("models")
    @classmethod
    def _not_the_package_s(cls, value: dict[str, ModelEntry]) -> dict[str, ModelEntry]:
        if BUILTIN_NAME in value:
            raise ValueError(f"{BUILTIN_NAME} is the package's own; choose another name")
        return value


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
        raise CheckpointError(f"{file}: {_problem(error)} See docs/models.md.") from None


def _problem(error: ValidationError) -> str:
    """The first problem of a file of rows: where it is, what stands there and what may."""
    problem: Any = error.errors(include_url=False)[0]
    place = [str(part) for part in problem["loc"]]
    if place[-1] == "[key]":
        return f"{place[0]}: got the name {problem['input']!r}; allowed: names without a colon."
    if problem["type"] == "extra_forbidden":
        kinds: dict[str, type[BaseModel]] = {"files": FileEntry, "models": ModelEntry, "loras": LoraEntry}
        return f"{'.'.join(place)} is not known. {nearest(place[-1], kinds.get(place[0], Book).model_fields)}"
    given = "" if isinstance(problem["input"], dict) else f"got {problem['input']!r}; "
    said = problem["msg"].replace("Value error, ", "").replace("Input should be", "allowed:")
    return f"{'.'.join(place)}: {given}{said}."
