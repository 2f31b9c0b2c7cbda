"""The page `docs/cli.md`, made from the parser: `python -m wan2_i2v.doors.cli.reference > docs/cli.md`."""

from __future__ import annotations

import sys

import typer.main
from typer.cli import get_docs_for_click

from wan2_i2v.doors.cli.app import app


def page() -> str:
    """Markdown of every command and flag."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="wan2-i2v")
    text = get_docs_for_click(obj=command, ctx=context, name="wan2-i2v")
    note = "<!-- Made by `make docs` from the parser; do not edit. -->\n\n"
    return note + "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
