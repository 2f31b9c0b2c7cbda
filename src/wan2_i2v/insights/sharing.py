"""Insights to share: runs as JSON lines, without prompts unless asked, never with pictures, names or paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.insights.run import Run
from wan2_i2v.workspace import replacing

HEADER = {"wan2_i2v_insights": 1}
PRIVATE = ("prompt", "negative_prompt")


def write(runs: Iterable[Run], path: Path, *, prompts: bool = False) -> int:
    """Write runs to `path`, atomically; how many they are."""
    kept = tuple(runs)
    hidden = set() if prompts else set(PRIVATE)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(HEADER) + "\n")
        for run in kept:
            file.write(run.model_dump_json(exclude=hidden) + "\n")
    return len(kept)


def read(path: Path) -> Iterator[Run]:
    """The runs of a file that `write` made.

    Raises InvalidRequest for a file that is none, naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(lines[0]) if lines else None
    except (OSError, ValueError) as error:
        raise _refused(path, str(error)) from error
    if header != HEADER:
        raise _refused(path, "its first line is another one")
    for number, line in enumerate(lines[1:], start=2):
        try:
            yield Run.model_validate_json(line)
        except ValidationError as error:
            raise _refused(path, f"line {number}: {error.errors(include_url=False)[0]['msg']}") from error


def _refused(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest("file", str(path), "a file that wan2-i2v insights export wrote", f"It cannot be used: {why}.")
