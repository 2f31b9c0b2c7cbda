"""`wan2-i2v insights`: what was learned from all runs, and sharing it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson

if TYPE_CHECKING:
    from wan2_i2v.insights.figures import Rate
    from wan2_i2v.insights.run import Run

app = typer.Typer(help="What was learned from all runs of this machine, and of others.", invoke_without_command=True)

Model = Annotated[str | None, typer.Option("--model", help="Only runs of this model.", show_default=False)]
Out = Annotated[str, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)]
Given = Annotated[str, typer.Argument(metavar="FILE", help="A file that export wrote.", show_default=False)]
Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="Where the report goes.", show_default=False)]
Prompts = Annotated[bool, typer.Option("--prompts", help="With the prompts too.")]


@app.callback()
def show(context: typer.Context, model: Model = None, json: AsJson = False) -> int:
    """Show measured sizes per device, how often checks pass, and ratings; nothing from fewer than 5 runs."""
    from wan2_i2v.insights import figures

    if context.invoked_subcommand is not None:
        return 0
    runs = [run for run in _runs() if model in (None, run.model)]
    sizes, rates, likings = figures.sizes(runs), figures.rates(runs), figures.likings(runs)
    if json:
        found: dict[str, Sequence[object]] = {"sizes": sizes, "rates": rates, "ratings": likings}
        output.result({"runs": len(runs)} | {name: [_plain(one) for one in these] for name, these in found.items()})
        return 0
    typer.echo(f"{len(runs)} runs; at least {figures.LEAST} are needed for a figure; 95 % intervals in brackets")
    for size in sizes:
        what = f"{size.width}×{size.height} × {size.model_frames}"
        typer.echo(
            f"{size.device}, {size.model}, {what}: {size.verdict}; memory sufficed in {size.fitted.told()}; "
            f"peak {size.measured}, computed {size.predicted_gib:.1f} of {size.memory_gib:.1f} GiB"
        )
    for line in _rate_lines(rates):
        typer.echo(line)
    for liking in likings:
        typer.echo(f"{liking.by} {liking.group}: rated {liking.mean:.1f} of 5 ({liking.low:.1f}–{liking.high:.1f})")
    return 0


def _rate_lines(rates: Sequence[Rate]) -> list[str]:
    """A line for each group and each check that failed in it; those that never did stand together."""
    lines: list[str] = []
    for (by, group), mine in itertools.groupby(rates, key=lambda rate: (rate.by, rate.group)):
        shares = {rate.check: rate.share for rate in mine}
        never = [check for check, share in shares.items() if share.passed == share.count and check != "all checks"]
        lines += [
            f"{by} {group}: {check} passed in {share.told()}" for check, share in shares.items() if check not in never
        ]
        if never:
            lines.append(f"{by} {group}: never failed: {', '.join(never)}")
    return lines


@app.command("export")
def export(file: Out, prompts: Prompts = False, json: AsJson = False) -> int:
    """Write all runs to a file to share: numbers and verdicts; no pictures, names or paths, prompts only when asked."""
    from wan2_i2v.insights import sharing
    from wan2_i2v.request import describe_path

    count = sharing.write(_runs(), describe_path(file), prompts=prompts)
    _say(json, {"runs": count, "file": file}, f"{count} runs in {file}")
    return 0


@app.command("import")
def take(file: Given, json: AsJson = False) -> int:
    """Take in the runs of others; those that are known already change nothing."""
    from wan2_i2v.insights import sharing
    from wan2_i2v.insights.book import Book
    from wan2_i2v.request import describe_path

    runs = tuple(sharing.read(describe_path(file)))
    with Book() as book:
        new = book.merge(runs)
    _say(json, {"runs": len(runs), "new": new}, f"{new} of {len(runs)} runs are new")
    return 0


@app.command("report")
def report(folder: Folder, json: AsJson = False) -> int:
    """Write the knowledge base as it stands now, with plots, as Markdown."""
    from wan2_i2v.insights import report as writing
    from wan2_i2v.request import describe_path

    written = str(writing.write(_runs(), describe_path(folder)))
    _say(json, {"file": written}, written)
    return 0


def _say(json: bool, found: dict[str, object], sentence: str) -> None:
    if json:
        output.result(found)
    else:
        typer.echo(sentence)


def _runs() -> Sequence[Run]:
    from wan2_i2v.insights.book import Book

    with Book() as book:
        return book.runs()


def _plain(figure: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(figure) and not isinstance(figure, type)
    data = dataclasses.asdict(figure)
    for name in ("share", "fitted"):
        share = getattr(figure, name, None)
        if share is not None:
            data[name] |= {"rate": round(share.rate, 4), "low": round(share.low, 4), "high": round(share.high, 4)}
    return data
