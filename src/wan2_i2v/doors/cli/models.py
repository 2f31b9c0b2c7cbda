"""`wan2-i2v models`: what checkpoints there are, get them, check them, say where they lie, take them off."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson, Quiet

if TYPE_CHECKING:
    from wan2_i2v.models.book import Book, FileEntry
    from wan2_i2v.models.download import Report
    from wan2_i2v.rows import ModelFiles

app = typer.Typer(help="List, get, check and remove checkpoints and LoRAs.", no_args_is_help=True)

COMFYUI_VARIABLE = "WAN2_I2V_COMFYUI_MODELS"

Name = Annotated[str, typer.Argument(help="A name that wan2-i2v models list shows; path and verify take a path too.")]


def use_comfyui(folder: str | None) -> str | None:
    """Make a ComfyUI folder given on the command line the setting, for this process and those that it starts."""
    if folder is not None:
        os.environ[COMFYUI_VARIABLE] = folder
    return folder


ComfyUI = Annotated[
    str | None,
    typer.Option(
        "--comfyui-models",
        metavar="DIR",
        help="ComfyUI's folder of models, whose files are used in place; by default looked for in the usual places",
        callback=use_comfyui,
        show_default=False,
    ),
]


@app.command("list")
def list_models(comfyui_models: ComfyUI = None, json: AsJson = False) -> int:
    """List checkpoints and LoRAs, and whether they are here."""
    rows = list(_rows())
    if json:
        for row in rows:
            output.result(row)
        return 0
    table = Table("name", "here", "size", "licence", "what", box=None)
    for row in rows:
        amount = row["bytes"]
        size = f"{amount / 1e9:.1f} GB" if amount >= 1e8 else f"{amount / 1e6:.0f} MB" if amount else "?"
        why_not = "unusable" if row["problem"] else f"{len(row['missing'])} missing" if row["missing"] else ""
        here = "yes" if row["here"] else f"no: {why_not}".removesuffix(": ")
        table.add_row(row["name"], here, size, row["licence"], escape(row["problem"] or row["title"]))
    output.console().print(table)
    return 0


def _rows() -> Iterator[dict[str, Any]]:
    from wan2_i2v.models import catalog
    from wan2_i2v.models.book import book

    known = book()
    for name in catalog.names():
        yield _model(known, name)
    for name in known.loras:
        yield _lora(known, name)


def _lora(known: Book, name: str) -> dict[str, Any]:
    """A LoRA's row of the list. One whose files cannot be used says why."""
    from wan2_i2v.errors import CheckpointError
    from wan2_i2v.models import catalog

    lora, problem = known.loras[name], ""
    files = [known.files[each] for each in lora.roles().values() if each in known.files]
    try:
        absent = [file.name for file in catalog.lora_files(name) if file.path is None]
    except CheckpointError as error:
        absent, problem = [], str(error)
    return {
        "name": name, "kind": "lora", "title": lora.title, "licence": lora.licence, "bytes": sum(f.bytes for f in files),
        "here": not absent and not problem, "missing": absent, "variants": [], "recipe": lora.recipe, "files": _told(files),
        "problem": problem,
    }  # fmt: skip


def _model(known: Book, name: str) -> dict[str, Any]:
    """A row of the list. One whose files cannot be used says why, and spoils no other."""
    from wan2_i2v.errors import CheckpointError
    from wan2_i2v.models import catalog
    from wan2_i2v.models.book import distinct

    row: dict[str, Any] = {"name": name, "kind": "model", "title": "found in ComfyUI's folders", "licence": ""}
    row |= {"bytes": 0, "here": False, "missing": [], "variants": [], "files": [], "problem": ""}
    try:
        found = catalog.look(name)
    except CheckpointError as error:
        row["problem"] = str(error)
    else:
        row |= {"here": found.files is not None, "bytes": _bytes_here(found.files), "experts": len(found.experts)}
        row |= {"boundary": found.boundary_ratio, "recipe": found.default_recipe}
    if name in catalog.BUILTIN:
        return row | {"title": "the embedded small model", "licence": "Apache-2.0"}
    entry = known.models.get(name)
    if entry is None:
        return row
    files = [] if entry.repo or entry.folder else distinct(catalog.files_of(known, name, "").values())
    row |= {"title": entry.title, "licence": entry.licence, "files": _told(files), "variants": list(entry.variants)}
    return row | {"missing": catalog.missing(name), "bytes": sum(file.bytes for file in files) or row["bytes"]}


def _told(files: Iterable[FileEntry]) -> list[dict[str, Any]]:
    """What the catalog knows of each file; 0 bytes and an empty hash are not known."""
    return [file.model_dump(include={"repo", "path", "bytes", "sha256"}) for file in files]


def _bytes_here(files: ModelFiles | None) -> int:
    """Bytes of the weights of a checkpoint that is here."""
    found: set[Path] = set()
    for place in files.parts().values() if files else ():
        found |= {file for file in place.rglob("*") if file.is_file()} if place.is_dir() else {place}
    return sum(file.stat().st_size for file in found)


@app.command()
def pull(name: Name, comfyui_models: ComfyUI = None, quiet: Quiet = False, json: AsJson = False) -> int:
    """Download what is not here yet of a checkpoint or LoRA.

    A download that was cut off goes on. Files that are on this machine already are used where they are.
    """
    from wan2_i2v.errors import Cancelled
    from wan2_i2v.models import download
    from wan2_i2v.models.book import book

    entry = book().models.get(name.partition(":")[0]) or book().loras.get(name)
    if entry and not (quiet or json):
        output.say(f"{': '.join(filter(None, (name, entry.title)))}. Licence: {entry.licence or 'not known here'}.")
    try:
        with _progress(silent=quiet or json) as report:
            paths = download.pull(name, report)
    except KeyboardInterrupt:
        raise Cancelled("cancelled; the same command goes on where it stopped.") from None
    if json:
        output.result({"name": name, "files": [str(path) for path in paths], "licence": entry.licence if entry else ""})
    else:
        for path in paths:
            typer.echo(path)
    return 0


@contextlib.contextmanager
def _progress(*, silent: bool) -> Iterator[Report]:
    """Bars on stderr, one per file, while downloading."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=silent) as bars:
        tasks: dict[str, Any] = {}

        def report(entry: FileEntry, done: int) -> None:
            if entry.path not in tasks:
                tasks[entry.path] = bars.add_task(entry.name, total=entry.bytes or None)
            bars.update(tasks[entry.path], completed=done)

        yield report


@app.command()
def verify(name: Name, comfyui_models: ComfyUI = None, json: AsJson = False) -> int:
    """Check a checkpoint or LoRA: lengths, hashes where known, and every name and shape.

    Exits with 0 only when all is well.
    """
    from wan2_i2v.errors import CheckpointError
    from wan2_i2v.models import checking

    bad = 0
    for finding in checking.verify(name):
        bad += not finding.ok
        if json:
            output.result({"what": finding.what, "ok": finding.ok, "found": finding.found})
        else:
            typer.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}: {finding.found}")
    return CheckpointError.exit_code if bad else 0


@app.command()
def path(name: Name, comfyui_models: ComfyUI = None, json: AsJson = False) -> int:
    """Print where the parts of a checkpoint, or the files of a LoRA, lie."""
    from wan2_i2v.models import catalog
    from wan2_i2v.models.book import book

    if name in book().loras:
        places = {file.name: str(file.path) for file in catalog.lora_here(name)}
    else:
        files = catalog.find(name).files
        places = {part: str(place) for part, place in (files.parts() if files else {}).items()}
    if json:
        output.result({"name": name, "files": places})
    else:
        for part, place in places.items():
            typer.echo(f"{part}: {place}")
    return 0


@app.command()
def rm(name: Name, comfyui_models: ComfyUI = None, json: AsJson = False) -> int:
    """Remove the downloaded files of a checkpoint or LoRA.

    Files that wan2-i2v did not download, or that another checkpoint here uses, stay.
    """
    from wan2_i2v.models import download

    removals = download.remove(name)
    if not (removals or json):
        output.say(f"nothing of {name} is here that could be removed.")
    for removal in removals:
        if json:
            output.result({"path": str(removal.path), "removed": removal.removed, "why": removal.why})
        else:
            typer.echo(
                f"{'removed' if removal.removed else 'kept'}  {removal.path}{removal.why and f': {removal.why}'}"
            )
    return 0
