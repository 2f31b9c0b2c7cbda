"""`wan2-i2v export-workflow` and `import-workflow`: a plan as a graph that ComfyUI opens, and back."""

from __future__ import annotations

import json as js
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.options import request_options
from wan2_i2v.doors.cli.output import AsJson

if TYPE_CHECKING:
    from wan2_i2v.request import GenerateRequest

Image = Annotated[str, typer.Argument(metavar="IMAGE", help="The picture, as for generate.", show_default=False)]
Workflow = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="A workflow in API format (JSON), or a PNG or mp4 that ComfyUI saved.", show_default=False
    ),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="The model's name here; default: the row of the catalog with these files.")
]


@request_options
def export_workflow(*, image: Image, json: AsJson = False, **options: Any) -> int:
    """Write a clip's plan as a ComfyUI workflow in API format.

    Writes FILE.json, as --output names it (default: the job's name), and beside it FILE-first.png, the prepared picture,
    and FILE-last.png where there is a last one. They belong into ComfyUI's input folder. Drop the JSON onto ComfyUI's
    window to open it. No server is needed.
    """
    from wan2_i2v import api, pictures
    from wan2_i2v.backends.base import Wanted
    from wan2_i2v.backends.comfyui import drafted
    from wan2_i2v.comfyui.graph import build
    from wan2_i2v.doors.cli import inputs
    from wan2_i2v.settings import Settings

    request = _located(inputs.of_flags(options).replaced(image=image))
    picture = pictures.find_picture(request.image, Settings().input).absolute()
    plan = drafted(Wanted(request, picture, pictures.read_facts(picture), api.draw_seed()), has_nag=True)
    target = _target(request.output, plan.job_id)
    places = [target.with_name(f"{target.stem}-{which}.png") for which in ("first", "last")]
    graph = build(plan, places[0].name, f"video/{plan.job_id}", places[1].name)
    _write(target, js.dumps(graph, indent=2).encode() + b"\n", overwrite=plan.overwrite)
    for place, facts in zip(places, (plan.image, plan.last_image), strict=True):
        if facts is not None:
            box = plan.crop_box if facts is plan.image else None
            size = (plan.width, plan.height)
            prepared = pictures.prepare(Path(facts.path), *size, plan.crop, plan.background, box)
            _write(place, _png(prepared), overwrite=plan.overwrite)
    if json:
        written = [str(place) for place in places if place.is_file()]
        output.result({"workflow": str(target), "pictures": written, "warnings": plan.warnings})
        return 0
    for warning in plan.warnings:
        output.say(warning)
    typer.echo(target)
    return 0


def import_workflow(file: Workflow, model: ModelName = None, json: AsJson = False) -> int:
    """Read a ComfyUI workflow as a request.

    Prints the command that makes its clip here, or with --json the request, a row for a job list. What is not understood
    is named, and nothing is guessed.
    """
    import shlex

    from wan2_i2v.comfyui import finding, reading
    from wan2_i2v.models import elsewhere
    from wan2_i2v.request import GenerateRequest, describe_path

    path = describe_path(file)
    found = reading.read(finding.find(path))
    fields = found.fields | {"model": model or elsewhere.model_of(found.files)}
    for name in ("image", "last_image"):
        beside = path.parent / str(fields.get(name))
        fields |= {name: str(beside)} if name in fields and beside.is_file() else {}
    request = GenerateRequest(**fields)
    said = request.model_dump(mode="json", exclude_defaults=True)
    if json:
        output.result(said)
    else:
        typer.echo(shlex.join(["wan2-i2v", "generate", *command(said)]))
    return 0


def command(fields: Mapping[str, Any]) -> list[str]:
    """The arguments of `generate` that say these fields of a request."""
    from wan2_i2v.doors.cli.options import FLAGS

    words = [str(fields["image"])]
    for flag in FLAGS:
        value = fields.get(flag.field)
        name, _, negated = flag.names[0].partition("/")
        if isinstance(value, bool):
            words += [name] if value else [negated] if negated else []
        elif isinstance(value, (list, tuple)):
            words += [word for one in value for word in (name, str(one))]
        elif value is not None:
            words += [name, str(value)]
    return words


def _located(request: GenerateRequest) -> GenerateRequest:
    """The request with its last picture where that is."""
    from wan2_i2v import pictures
    from wan2_i2v.settings import Settings

    if request.last_image is None:
        return request
    last = pictures.find_picture(request.last_image, Settings().input, "last_image").absolute()
    return request.replaced(last_image=str(last))


def _target(asked: str | None, job_id: str) -> Path:
    """The JSON file: `asked` when it names one, else a file in that folder, named after the job."""
    from wan2_i2v.request import describe_path

    path = describe_path(asked or f"{job_id}.json")
    return path / f"{job_id}.json" if path.is_dir() or path.suffix.lower() != ".json" else path


def _write(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Raises OutputError for a file that exists or a place that cannot be written."""
    from wan2_i2v.errors import OutputError, writing
    from wan2_i2v.media import metadata
    from wan2_i2v.workspace import replacing

    with writing(path, "Choose another --output."):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path, overwrite=overwrite) as temporary:
                temporary.write_bytes(content)
        except FileExistsError:
            raise OutputError(metadata.taken(path)) from None


def _png(picture: Any) -> bytes:
    import io

    output = io.BytesIO()
    picture.save(output, format="PNG")
    return output.getvalue()
