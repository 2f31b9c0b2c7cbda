"""`wan2-i2v prompt`: check a prompt, or compose one from its parts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import InvalidRequest

if TYPE_CHECKING:
    from wan2_i2v.prompting.lint import Finding

Text = Annotated[str | None, typer.Argument(help="The prompt to check.", show_default=False)]
Negative = Annotated[str, typer.Option("--negative", "-n", help="The negative prompt.", show_default=False)]
Speech = Annotated[bool, typer.Option("--allow-speech", help="Leave mouths and emotions alone.")]
Unguided = Annotated[bool, typer.Option("--unguided", help="Guidance is off (CFG 1): negatives are not evaluated.")]
Subject = Annotated[str, typer.Option(help="Compose: who or what.", show_default=False)]
Action = Annotated[str, typer.Option(help="Compose: the one main action.", show_default=False)]
Body = Annotated[str, typer.Option(help="Compose: which part of the body, and how.", show_default=False)]
Place = Annotated[str, typer.Option(help="Compose: where.", show_default=False)]
Light = Annotated[str, typer.Option(help="Compose: in which light.", show_default=False)]
Camera = Annotated[str, typer.Option(help="Compose: what the camera does.", show_default=False)]


def prompt(
    text: Text = None,
    negative: Negative = "",
    allow_speech: Speech = False,
    unguided: Unguided = False,
    subject: Subject = "",
    action: Action = "",
    body: Body = "",
    place: Place = "",
    light: Light = "",
    camera: Camera = "",
    json: AsJson = False,
) -> int:
    """Check a prompt, or compose one from --subject, --action and more, with mouth prevention in the negative.

    Findings are hints: the exit code stays 0.
    """
    from wan2_i2v.prompting import compose
    from wan2_i2v.prompting.lint import lint

    parts = (subject, action, body, place, light, camera)
    if (text is None) == (not any(parts)):
        raise InvalidRequest("prompt", text, "a prompt to check, or --subject and --action to compose one; not both")
    written = compose.compose(compose.Parts(*parts)) if text is None else text
    completed = compose.negative(negative, allow_speech=allow_speech) if text is None else negative
    found = lint(written, completed, allow_speech=allow_speech, negative_evaluated=not unguided)
    if json:
        findings = [dataclasses.asdict(finding) for finding in found]
        output.result({"prompt": written, "negative_prompt": completed, "findings": findings})
    else:
        _show(written, completed, found, composed=text is None)
    return 0


def _show(written: str, negative: str, found: tuple[Finding, ...], *, composed: bool) -> None:
    if composed:
        typer.echo(f"prompt: {written}\nnegative: {negative}")
    for finding in found:
        begin, end = finding.span
        where = f"{finding.field} {begin}-{end}"
        typer.echo(f"{finding.rule} ({where}): {finding.message}. {finding.instead}")
    if not found:
        typer.echo("no findings")
