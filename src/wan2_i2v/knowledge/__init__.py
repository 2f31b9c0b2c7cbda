"""The knowledge base as data: `entries`, each with its source and date. A leaf.

`first_edition.toml` is the seed document, line by line, with what is wrong in it put right; later editions are further files, with what was
measured since.
"""

from __future__ import annotations

import datetime
import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

EDITIONS = ("first_edition.toml", "second_edition.toml")


class Source(BaseModel):
    """Where an entry comes from, and when it was said or measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    date: datetime.date


class Entry(BaseModel):
    """One thing that is known. `holds` says whether it is so; `correction` what is so instead, `by` whom that is from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str
    says: str
    holds: Literal["yes", "partly", "no", "untested"]
    source: Source
    correction: str = ""
    by: Source | None = None


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """All entries of all editions, in their order."""
    found: list[Entry] = []
    for edition in EDITIONS:
        data = tomllib.loads(files(__name__).joinpath(edition).read_text(encoding="utf-8"))
        sources = {key: Source(**value) for key, value in data["sources"].items()}
        for raw in data["entry"]:
            by = {"by": sources[raw["by"]]} if "by" in raw else {}
            found.append(Entry(**(raw | {"source": sources[raw["source"]]} | by)))
    return tuple(found)
