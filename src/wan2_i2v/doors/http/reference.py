"""The tables in docs/http.md, made from the OpenAPI schema: `python -m wan2_i2v.doors.http.reference docs/http.md`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from wan2_i2v.doors.http.app import described
from wan2_i2v.doors.http.errors import EVERYWHERE

BEGIN = "<!-- Made by `make docs` from the OpenAPI schema; do not edit. -->\n"
END = "<!-- End of what `make docs` makes. -->\n"

TITLES = {
    "server": "The server",
    "pictures": "Pictures and plans",
    "jobs": "Jobs",
    "files": "A job's files",
    "events": "Events",
}
"""Headings by tag, in order; other tags follow under their own names."""


def tables() -> str:
    """Markdown: every route under its tag, with its parameters, body and answers."""
    schema = described()
    groups: dict[str, list[str]] = {tag: [] for tag in TITLES}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            tag = operation["tags"][0]
            groups.setdefault(tag, []).append(_operation(method.upper(), path, operation, schema))
    return "\n".join(f"## {TITLES.get(tag, tag)}\n\n" + "\n".join(found) for tag, found in groups.items() if found)


def _operation(method: str, path: str, operation: dict[str, Any], schema: dict[str, Any]) -> str:
    about = " ".join(operation.get("description", operation.get("summary", "")).split())
    parts = [f"### `{method} {path}`\n\n{about}\n"]
    rows = [
        (one["name"], one["in"], _kind(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", [])
        if one["in"] != "cookie"
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        rows += _fields(media_type, _resolved(content.get("schema", {}), schema), schema)
    if rows:
        lines = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
        parts.append("\n".join(["| name | where | kind | |", "|---|---|---|---|", *lines]) + "\n")
    own = [_answer(status, one) for status, one in operation["responses"].items() if int(status) not in EVERYWHERE]
    parts.append(f"Answers {', '.join(own)}.\n")
    return "\n".join(parts)


def _fields(media_type: str, body: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    where = "form" if "form" in media_type else "body"
    known = body.get("properties", {})
    if not known:
        return [("", where, f"`{media_type}`", body.get("description", ""))]
    return [(name, where, _kind(_resolved(one, schema)), one.get("description", "")) for name, one in known.items()]


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return node if reference is None else dict(schema["components"]["schemas"][reference.rpartition("/")[2]])


def _kind(node: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(option) for option in node["anyOf"] if option.get("type") != "null"))
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    kind = str(node.get("type", node.get("$ref", "anything").rpartition("/")[2]))
    if kind == "array":
        kind = f"list of {_kind(node.get('items', {}))}"
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum")
    if low is not None and high is not None:
        kind += f", {low:g} to {high:g}"
    if node.get("default") not in (None, "", [], {}):
        kind += f", default {node['default']}"
    return kind


def _answer(status: str, response: dict[str, Any]) -> str:
    types = [name for name in response.get("content", {}) if name != "application/json"]
    about = "" if status.startswith("2") else f" {response.get('description', '')}"
    return f"{status}{about}" + (f" ({', '.join(types)})" if types else "")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def renewed(page: str) -> str:
    """The page with fresh tables between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(renewed(target.read_text(encoding="utf-8")), encoding="utf-8")
