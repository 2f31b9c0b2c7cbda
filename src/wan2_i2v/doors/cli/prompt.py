"""`wan2-i2v prompt`: check a prompt, compose one from its parts, or have it written out by a language model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.options import beginning, text_options
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.presets import preset_names

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
PARTS = {
    "subject": "who or what",
    "action": "the one main action",
    "body": "which part of the body, and how",
    "place": "where",
    "light": "in which light",
    "camera": "what the camera does",
}
WRITTEN: dict[str, Any] = {
    "preset": Annotated[
        str,
        typer.Option(
            help="Check a preset's prompts; see wan2-i2v presets.",
            show_default=False,
            autocompletion=beginning(preset_names()),
        ),
    ],
} | {name: Annotated[str, typer.Option(help=f"Compose: {what}.", show_default=False)] for name, what in PARTS.items()}


@dataclass(frozen=True)
class _Words:
    """Both prompts, before anything is added. `composed`: from parts, so that mouth prevention has to be added."""

    prompt: str
    negative: str
    composed: bool


@text_options(WRITTEN)
def prompt(
    *,
    text: Text = None,
    negative: Negative = "",
    allow_speech: Speech = False,
    unguided: Unguided = False,
    enhance: Enhance = False,
    image: Picture = None,
    model: Model = "mini",
    json: AsJson = False,
    **written: str,
) -> int:
    """Check a prompt or a preset, or compose one from --subject, --action and more, with mouth prevention in the negative.

    Findings are hints: the exit code stays 0. Where --enhance cannot be had, a warning says why and the prompt stays.
    """
    from wan2_i2v.prompting import compose
    from wan2_i2v.prompting.lint import lint

    given = _given(text, negative, **written)
    better = _enhanced(given.prompt, image, allow_speech=allow_speech) if enhance else None
    final = given.prompt if better is None else better.prompt
    new = given.composed or (better is not None and better.changed)
    completed = compose.negative(given.negative, allow_speech=allow_speech) if new else given.negative
    found = lint(final, completed, allow_speech=allow_speech, negative_evaluated=not unguided, count=_counter(model))
    if json:
        findings = [dataclasses.asdict(finding) for finding in found]
        told = {} if better is None else {"given": given.prompt, "enhanced": better.changed, "problem": better.problem}
        output.result({"prompt": final, "negative_prompt": completed, "findings": findings} | told)
    else:
        _show(final, completed, found, told=new or text is None)
    return 0


def _given(text: str | None, negative: str, *, preset: str, **parts: str) -> _Words:
    """What stands on the command line: a prompt, a preset, or the parts of one.

    Raises InvalidRequest for none of them, or several.
    """
    from wan2_i2v.doors.cli.inputs import preset_named
    from wan2_i2v.prompting import compose

    if [text is not None, bool(preset), any(parts.values())].count(True) != 1:
        allowed = "a prompt to check, --preset, or --subject and --action to compose one; one of them"
        raise InvalidRequest("prompt", text, allowed, 'Such as: wan2-i2v prompt "The boat sails to the left."')
    if preset:
        prompt, own, _ = preset_named(preset)
        return _Words(prompt, negative or own, composed=False)
    return (
        _Words(text, negative, False)
        if text is not None
        else _Words(compose.compose(compose.Parts(**parts)), negative, True)
    )


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


def _show(written: str, negative: str, found: tuple[Finding, ...], *, told: bool) -> None:
    """The findings; both prompts too where the command made or looked them up (`told`)."""
    if told:
        typer.echo(f"prompt: {written}\nnegative: {negative}")
    for finding in found:
        begin, end = finding.span
        where = f"{finding.field} {begin}-{end}"
        typer.echo(f"{finding.rule} ({where}): {finding.message}. {finding.instead}")
    if not found:
        typer.echo("no findings")
