"""`wan2-i2v analyze`: what is in a picture, and what that means for a video of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import Wan2I2VError

if TYPE_CHECKING:
    from wan2_i2v.eye.findings import PictureReport

Images = Annotated[list[str], typer.Argument(help="Pictures.", show_default=False)]


def analyze(images: Images, json: AsJson = False) -> int:
    """Look at pictures: transparency, background, faces, subject, quality, and what to choose for a video.

    A picture that cannot be read does not stop the others.
    """
    from wan2_i2v.eye.picture import analyze as look
    from wan2_i2v.request import describe_path

    code = 0
    for image in images:
        try:
            report = look(describe_path(image))
        except Wan2I2VError as problem:
            output.error(problem, as_json=json, label=image)
            code = code or problem.exit_code
            continue
        if json:
            output.result({"image": image} | report.model_dump(mode="json"))
        else:
            _show(image, report)
    return code


def _show(image: str, report: PictureReport) -> None:
    mouth = {"none": "", "low": ", low mouth risk", "high": ", high mouth risk"}[report.mouth_risk]
    typer.echo(f"{image}: {report.width}×{report.height} {report.mode}")
    typer.echo(f"  background: {report.background}, {report.background_colour}")
    sizes = ", ".join(f"{face.height} px{' in profile' if face.profile else ''}" for face in report.faces[:6])
    typer.echo(f"  faces: {len(report.faces)}{f' ({sizes})' if sizes else ''}{mouth}")
    for advice in report.advice:
        mark = "warning" if advice.urgency == "warning" else "advice"
        typer.echo(f"  {mark}: {advice.about} {advice.value}: {advice.reason}")
