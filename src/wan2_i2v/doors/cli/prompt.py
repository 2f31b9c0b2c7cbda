"""`wan2-i2v prompt`: check a prompt, compose one from its parts, or have it written out by a language model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import InvalidRequest

if TYPE_CHECKING:
    from wan2_i2v.prompting.enhance import Enhanced
    from wan2_i2v.prompting.lint import Finding
    from wan2_i2v.prompting.tokens import Count

Text = Annotated[str | None, typer.Argument(help="The prompt to check.", show_default=False)]
Negative = Annotated[str, typer.Option("--negative", "-n", help="The negative prompt.", show_default=False)]
Speech = Annotated[bool, typer.Option("--allow-speech", help="Leave mouths and emotions alone.")]
Unguided = Annotated[bool, typer.Option("--unguided", help="Guidance is off (CFG 1): negatives are not evaluated.")]
Enhance = Annotated[
    bool, typer.Option("--enhance", help="Ask the service of WAN2_I2V_ENHANCE_URL to write the prompt out.")
]
Picture = Annotated[
    str | None, typer.Option("--image", help="With --enhance: the picture, for models that see.", show_default=False)
]
Model = Annotated[str, typer.Option("--model", help="Whose tokenizer counts the prompt's length.")]
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
    enhance: Enhance = False,
    image: Picture = None,
    model: Model = "mini",
    subject: Subject = "",
    action: Action = "",
    body: Body = "",
    place: Place = "",
    light: Light = "",
    camera: Camera = "",
    json: AsJson = False,
) -> int:
    """Check a prompt, or compose one from --subject, --action and more, with mouth prevention in the negative.

    Findings are hints: the exit code stays 0. Where --enhance cannot be had, a warning says why and the prompt stays.
    """
    from wan2_i2v.prompting import compose
    from wan2_i2v.prompting.lint import lint

    parts = (subject, action, body, place, light, camera)
    if (text is None) == (not any(parts)):
        allowed = "a prompt to check, or --subject and --action to compose one; not both"
        raise InvalidRequest("prompt", text, allowed, 'Such as: wan2-i2v prompt "The boat sails to the left."')
    written = compose.compose(compose.Parts(*parts)) if text is None else text
    better = _enhanced(written, image, allow_speech=allow_speech) if enhance else None
    final = written if better is None else better.prompt
    new = text is None or (better is not None and better.changed)
    completed = compose.negative(negative, allow_speech=allow_speech) if new else negative
    found = lint(final, completed, allow_speech=allow_speech, negative_evaluated=not unguided, count=_counter(model))
    if json:
        findings = [dataclasses.asdict(finding) for finding in found]
        told = {} if better is None else {"given": written, "enhanced": better.changed, "problem": better.problem}
        output.result({"prompt": final, "negative_prompt": completed, "findings": findings} | told)
    else:
        _show(final, completed, found, composed=new)
    return 0


def _enhanced(written: str, image: str | None, *, allow_speech: bool) -> Enhanced:
    from wan2_i2v.prompting import enhance
    from wan2_i2v.request import describe_path

    picture = None if image is None else describe_path(image)
    better = enhance.enhance(written, picture, enhance.configured(), allow_speech=allow_speech)
    if better.problem:
        output.say(f"warning: the prompt is unchanged: {better.problem}")
    elif picture is not None and not better.saw_picture:
        output.say("warning: the service does not take pictures; the prompt was written without it")
    return better


def _counter(model: str) -> Count | None:
    """Counts tokens as the model does, where its tokenizer is here."""
    from wan2_i2v.models import catalog
    from wan2_i2v.prompting import tokens

    files = catalog.look(model).files
    return tokens.counter(None if files is None else files.tokenizer)


def _show(written: str, negative: str, found: tuple[Finding, ...], *, composed: bool) -> None:
    if composed:
        typer.echo(f"prompt: {written}\nnegative: {negative}")
    for finding in found:
        begin, end = finding.span
        where = f"{finding.field} {begin}-{end}"
        typer.echo(f"{finding.rule} ({where}): {finding.message}. {finding.instead}")
    if not found:
        typer.echo("no findings")
