"""`wan2-i2v bench`: measure this machine, show it as tables, and leave a JSON file to share."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson, Quiet
from wan2_i2v.errors import OutputError

if TYPE_CHECKING:
    from wan2_i2v.bench.report import Part, Report

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The checkpoint whose times are taken; default: on a card a real one whose files are here, else mini.",
        show_default=False,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out", help="The JSON file; default: bench-<date>-<time>.json in the output folder.", show_default=False
    ),
]


def bench(
    device: Device = "auto", model: Model = None, out: Out = None, quiet: Quiet = False, json: AsJson = False
) -> int:
    """Measure this machine: memory, residencies, attention kernels, one clip.

    On a card also its results against the CPU's, and memory under caps of 8, 12, 16 and 24 GB. Prints tables and writes a
    JSON file to share.
    """
    from wan2_i2v import devices
    from wan2_i2v.models import catalog

    if model is not None:
        # Before torch is loaded, which takes long.
        catalog.find(model)
    target = _target(out)

    from wan2_i2v.bench import suite

    used = devices.detect(device)
    if not used.is_cuda and not quiet:
        output.say(f"measuring on the CPU ({used.label}): what needs a CUDA card is left out")
    report = suite.run(used, model or suite.best_model(used), lambda text: None if quiet else output.say(text))
    _write(report, target)
    if json:
        output.result(report.model_dump(mode="json"))
    else:
        _show(report)
    if not quiet:
        output.say(f"written to {target}")
    return 0


def _target(out: str | None) -> Path:
    """Where the JSON goes.

    Raises OutputError for a name that is taken or a folder that cannot be made, before anything is measured.
    """
    from wan2_i2v.settings import Settings

    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    path = Settings().output / f"bench-{stamp}.json" if out is None else Path(out).expanduser()
    if path.exists():
        raise OutputError(f"{path} exists already; choose another --out.")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made ({error.strerror}); choose another --out.") from error
    return path


def _write(report: Report, path: Path) -> None:
    from wan2_i2v.workspace import replacing

    with replacing(path, overwrite=False) as temporary:
        temporary.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _show(report: Report) -> None:
    console = output.console()
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    head = f"{report.card} ({report.device}, {report.memory_gib:g} GiB), {report.dtype}, model {report.model}"
    console.print(f"{head}\n{versions}\n", markup=False)
    for part in report.parts:
        _show_part(part)


def _show_part(part: Part) -> None:
    from rich.table import Table

    from wan2_i2v.bench.report import cell

    console = output.console()
    console.print(f"{part.name}: {part.about}", markup=False, style="bold")
    if part.skipped:
        console.print(f"not measured: {part.skipped}", markup=False)
    else:
        columns = part.columns()
        table = Table("", *columns, box=None, header_style="dim")
        for row in part.rows:
            table.add_row(row.what, *(cell(row.values.get(column)) for column in columns))
        console.print(table)
    console.print()
