"""What a benchmark run found: parts with rows of named values, as data to share. A part that could not run says why.

Imported by the other modules of `bench` and by the command that shows it. No torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Value = float | bool | str


class Row(BaseModel):
    """One measurement: what was measured, and its values by name; units stand in the names."""

    model_config = ConfigDict(frozen=True)

    what: str
    values: dict[str, Value]


class Part(BaseModel):
    """One question and its answers. `skipped` says why there are none, empty otherwise."""

    model_config = ConfigDict(frozen=True)

    name: str
    about: str
    rows: tuple[Row, ...] = ()
    skipped: str = ""

    def columns(self) -> list[str]:
        """The names of all values, in the order in which they come first."""
        return list(dict.fromkeys(name for row in self.rows for name in row.values))


class Report(BaseModel):
    """A whole run. `date` is an ISO date; `device` as torch names it, `card` as its maker does."""

    model_config = ConfigDict(frozen=True)

    date: str
    device: str
    card: str
    memory_gib: float
    dtype: str
    model: str
    versions: dict[str, str]
    parts: tuple[Part, ...]


def cell(value: Value | None) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
