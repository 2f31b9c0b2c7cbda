"""How commands speak: results on stdout, everything else on stderr, JSON one object per line when asked.

JSON is written in ASCII: a pipe on Windows may know no other letters.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from wan2_i2v.errors import Wan2I2VError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line; errors too.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


def console() -> Console:
    """Rich on stdout. Made at each use: it looks at the terminal when it is made."""
    return Console(highlight=False)


def be_printable() -> None:
    """Let letters that a pipe's encoding lacks, as on Windows, come out as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def result(data: Any) -> None:
    """One JSON object on stdout, on one line."""
    typer.echo(json.dumps(data, default=str))


def say(text: str) -> None:
    """A sentence for the user, on stderr."""
    typer.echo(text, err=True)


def error(problem: Wan2I2VError, *, as_json: bool, label: str = "") -> None:
    """An error on stderr: one line, or one JSON object. `label` names the picture or row among several."""
    if as_json:
        say(json.dumps({"error": problem.to_dict() | ({"of": label} if label else {})}))
    else:
        message = " ".join(str(problem).split())
        say(f"error: {label + ': ' if label and label not in message else ''}{message}")


def usage_error(message: str, *, as_json: bool) -> None:
    """An error of the command line itself, before any request exists."""
    if as_json:
        say(json.dumps({"error": {"code": "usage", "message": message}}))
    else:
        say(message if "\n" in message else f"error: {message or 'a command is missing.'} See wan2-i2v --help.")
