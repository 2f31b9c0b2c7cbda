"""A job list (JSONL, CSV or YAML) in, requests and the errors of bad rows out. A leaf without torch; doors import it.

A row's keys are the fields of `GenerateRequest`. A picture is looked for beside the list first. A bad row does not
spoil the others: it comes out as its error, which names the file and the line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wan2_i2v.errors import InvalidJobList, InvalidRequest
from wan2_i2v.request import GenerateRequest, check_known, describe_path

Rows = Iterator[tuple[int, Any]]
"""Line number, counted from 1, and what stands there: a mapping, or an InvalidJobList that says why it is none."""


@dataclass(frozen=True)
class Row:
    """One row of a list: `line` of the file, and the request or why there is none."""

    line: int
    request: GenerateRequest | InvalidJobList


def is_job_list(path: str) -> bool:
    """Whether the name says that it is a job list and no picture."""
    return Path(path).suffix.lower() in READERS


def read(path: Path, defaults: Mapping[str, Any]) -> list[Row]:
    """All rows of a list; `defaults` are the request fields that a row may leave out.

    Raises InvalidJobList for a file that cannot be read at all or holds no row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidJobList("job list", str(path), "a readable UTF-8 text file", f"{error}.") from None
    rows = [_row(path, line, fields, defaults) for line, fields in READERS[path.suffix.lower()](path, text)]
    if not rows:
        raise InvalidJobList("job list", str(path), "at least one row")
    return rows


def _row(path: Path, line: int, fields: Any, defaults: Mapping[str, Any]) -> Row:
    if isinstance(fields, InvalidJobList):
        return Row(line, fields)
    where = f"{path.name} line {line}"
    if not isinstance(fields, dict):
        return Row(line, InvalidJobList(where, fields, "names and values of one request, such as image and prompt"))
    try:
        check_known(fields)
        named = {name: fields.get(name) for name in ("image", "last_image")}
        located = {name: _beside(path, value) for name, value in named.items() if isinstance(value, str)}
        return Row(line, GenerateRequest(**(dict(defaults) | fields | located)))
    except InvalidRequest as error:
        return Row(line, InvalidJobList(f"{where}, {error.field}", error.given, error.allowed, error.hint))


def _beside(path: Path, image: str) -> str:
    """The picture of this name beside the list when there is one, else the name as it is."""
    candidate = path.parent / describe_path(image) if image else path
    return str(candidate) if candidate.is_file() else image


def _jsonl(path: Path, text: str) -> Rows:
    for line, content in enumerate(text.splitlines(), start=1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except ValueError as error:
                yield line, InvalidJobList(f"{path.name} line {line}", content, "one JSON object per line", f"{error}.")


def _csv(path: Path, text: str) -> Rows:
    """The first line names the fields; an empty cell leaves its field out."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            where = f"{path.name} line {reader.line_num}"
            if None in cells:
                yield (
                    reader.line_num,
                    InvalidJobList(where, cells[None], f"{len(reader.fieldnames or ())} cells, as named"),
                )
            else:
                yield reader.line_num, {name: value for name, value in cells.items() if value not in (None, "")}
    except csv.Error as error:
        line = reader.reader.line_num
        yield line, InvalidJobList(f"{path.name} line {line}", "", "comma-separated values", f"{error}.")


def _yaml(path: Path, text: str) -> Rows:
    """A list of mappings."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            raise InvalidJobList("job list", str(path), "a YAML list, one '- image: …' per clip")
        for item in node.value:
            yield item.start_mark.line + 1, loader.construct_object(item, deep=True)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidJobList("job list", str(path), "well-formed YAML", f"{' '.join(str(error).split())}.") from None
    finally:
        loader.dispose()


READERS: dict[str, Callable[[Path, str], Rows]] = {".jsonl": _jsonl, ".csv": _csv, ".yaml": _yaml, ".yml": _yaml}
