"""`wan2-i2v analyze`: what is in a picture, and what that means for a video of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import Wan2I2VError

if TYPE_CHECKING:
    from wan2_i2v.eye.findings import PictureReport

SHOWN = 3
"""Faces that are listed one by one."""
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
    left, top, right, bottom = report.subject
    guess = "" if report.subject_certain else ", a guess"
    sizes = (f"{one.width}×{one.height} cuts {one.cut_share:.0%}" for one in report.offers)
    typer.echo(f"{image}: {report.width}×{report.height} {report.mode}")
    for name, told in (
        ("transparent", f"{report.transparent_share:.1%} of the pixels" if report.transparent_share else "nothing"),
        ("background", f"{report.background}, {report.background_colour}"),
        ("faces", _faces(report)),
        ("subject", f"{left}, {top} to {right}, {bottom}{guess}"),
        ("quality", _quality(report)),
        ("sizes", ", ".join(sizes)),
    ):
        typer.echo(f"  {name}: {told}")
    for advice in report.advice:
        mark = "warning" if advice.urgency == "warning" else "advice"
        typer.echo(f"  {mark}: {advice.about} {advice.value}: {advice.reason}")


def _faces(report: PictureReport) -> str:
    """How many, the largest ones with their places, and whether a moving mouth would be seen."""
    if not report.faces:
        return "none"
    told = [
        f"{face.height} px{' in profile' if face.profile else ''} at {face.box[0]}, {face.box[1]} to {face.box[2]}, {face.box[3]}"
        for face in report.faces[:SHOWN]
    ]
    more = ["…"] if len(report.faces) > SHOWN else []
    return f"{len(report.faces)} ({'; '.join(told + more)}), {report.mouth_risk} mouth risk"


def _quality(report: PictureReport) -> str:
    return (
        f"sharpness {report.sharpness:.0f}, brightness {report.brightness:.0f} of 100, {report.clipped_share:.0%} pure black or "
        f"white, JPEG blocks {report.jpeg_blockiness:.2f} (1 is none)"
    )
