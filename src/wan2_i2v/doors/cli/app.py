"""The command line's root: commands, `--version`, and errors turned into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

import wan2_i2v
from wan2_i2v.doors.cli import (
    analyze,
    bench,
    cluster,
    doctor,
    generate,
    insights,
    inspect,
    models,
    output,
    plan,
    presets,
    prompt,
    rate,
    resume,
    serve,
    verify,
    workflow,
)
from wan2_i2v.errors import Cancelled, Wan2I2VError, translate

DEBUG_VARIABLE = "WAN2_I2V_DEBUG"

app = typer.Typer(
    name="wan2-i2v",
    help="Turn pictures into short videos with Wan2.2 I2V on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Environment: WAN2_I2V_INPUT and WAN2_I2V_OUTPUT name the folders (default: input and output), "
    "WAN2_I2V_URL and WAN2_I2V_TOKEN a running service that generate hands its jobs to, "
    "WAN2_I2V_BACKEND and WAN2_I2V_COMFYUI_URL the backend and its server, RAY_ADDRESS the cluster, "
    "WAN2_I2V_CACHE the folder of measured times (default: ~/.cache/wan2-i2v), "
    f"{DEBUG_VARIABLE}=1 shows tracebacks.",
)
for name, command in (
    ("generate", generate.generate),
    ("plan", plan.plan),
    ("resume", resume.resume),
    ("serve", serve.serve),
    ("inspect", inspect.inspect),
    ("verify", verify.verify),
    ("analyze", analyze.analyze),
    ("prompt", prompt.prompt),
    ("presets", presets.presets),
    ("rate", rate.rate),
    ("export-workflow", workflow.export_workflow),
    ("import-workflow", workflow.import_workflow),
    ("doctor", doctor.doctor),
    ("bench", bench.bench),
):
    app.command(name)(command)
app.add_typer(models.app, name="models")
app.add_typer(insights.app, name="insights")
app.add_typer(cluster.app, name="cluster")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wan2-i2v {wan2_i2v.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn pictures into short videos with Wan2.2 I2V on this machine."""


def _usage(error: TyperException) -> str:
    """What is wrong with the command line: of a number, what was given and what is allowed; else in Typer's words."""
    option, cause = getattr(error, "param", None), error.__cause__
    low, high = getattr(option, "min", None), getattr(option, "max", None)
    if option is None or not isinstance(cause, ValidationError) or (low, high) == (None, None):
        return error.format_message()
    allowed = " ".join(
        ("a number", *(f"{word} {end:g}" for word, end in (("from", low), ("to", high)) if end is not None))
    )
    return f"{option.opts[0]}: got {str(cause.errors()[0]['input'])!r}; allowed: {allowed}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the codes are listed in `errors.py`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    output.be_printable()
    try:
        code = app(args=given, prog_name="wan2-i2v", standalone_mode=False)
    except TyperException as error:
        output.usage_error(_usage(error), as_json="--json" in given)
        return int(error.exit_code)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        known = translate(error, "running wan2-i2v")
        if type(known) is Wan2I2VError and known is not error:
            known = Wan2I2VError(f"{known}; {DEBUG_VARIABLE}=1 shows where")
        output.error(known, as_json="--json" in given)
        return known.exit_code
    if code == Cancelled.exit_code:
        # Typer answers Ctrl-C with this code and no word. While jobs run, `running` takes it; this is before.
        output.error(Cancelled("cancelled."), as_json="--json" in given)
    return int(code or 0)
