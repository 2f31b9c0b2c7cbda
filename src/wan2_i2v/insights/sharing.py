"""Insights to share: runs as JSON lines, without prompts unless asked, never with pictures, names or paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from wan2_i2v.errors import InvalidRequest, OutputError, writing
from wan2_i2v.insights.run import Run
from wan2_i2v.workspace import replacing

HEADER = {"wan2_i2v_insights": 1}
PRIVATE = ("prompt", "negative_prompt")


def write(runs: Iterable[Run], path: Path, *, prompts: bool = False) -> int:
    """Write runs to `path`, atomically; how many they are. Only an earlier export is replaced.

    Raises OutputError.
    """
    kept = tuple(runs)
    if path.is_file() and not _is_export(path):
        raise OutputError(f"{path} exists and is no export of insights; move it. Name another FILE.")
    hidden = set() if prompts else set(PRIVATE)
    with (
        writing(path, "Name another FILE."),
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.write(json.dumps(HEADER) + "\n")
        for run in kept:
            file.write(run.model_dump_json(exclude=hidden) + "\n")
    return len(kept)


def _is_export(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().strip() == json.dumps(HEADER).encode()


def read(path: Path) -> Iterator[Run]:
    """The runs of a file that `write` made.

    Raises InvalidRequest for a file that is none, naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(lines[0]) if lines else None
    except FileNotFoundError:
        raise InvalidRequest("file", str(path), "a file that exists", "Check the name.") from None
    except OSError as error:
        raise _refused(path, str(error.strerror)) from error
    except ValueError as error:
        raise _refused(path, "it is no text in JSON lines") from error
    if header != HEADER:
        raise _refused(path, "its first line is not that of an export")
    for number, line in enumerate(lines[1:], start=2):
        try:
            yield Run.model_validate_json(line)
        except ValidationError as error:
            raise _refused(path, f"line {number}: {error.errors(include_url=False)[0]['msg']}") from error


def _refused(path: Path, why: str) -> InvalidRequest:
    allowed = "a file that wan2-i2v insights export wrote"
    hint = f"It cannot be used: {why}. Have it exported again where the runs are."
    return InvalidRequest("file", str(path), allowed, hint)
