"""`wan2-i2v verify`: look at any video and say what is wrong with it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import InvalidRequest, VerificationFailed

if TYPE_CHECKING:
    from wan2_i2v.eye.clip import Examination


class Expect(StrEnum):
    motion = "motion"
    static = "static"


Video = Annotated[str, typer.Argument(help="A video, GIF or WebP, or a folder of PNG frames.", show_default=False)]
Against = Annotated[str | None, typer.Option(help="The picture that the video starts from.", show_default=False)]
Expected = Annotated[Expect | None, typer.Option(help="What was asked for.", show_default=False)]
Speech = Annotated[bool, typer.Option("--allow-speech", help="Moving mouths are reported but do not fail.")]
Flashes = Annotated[bool, typer.Option("--allow-flashes", help="The same for flashes of light.")]
Report = Annotated[str | None, typer.Option(help="Write a report to this .html or .png file.", show_default=False)]


def verify(
    video: Video,
    against: Against = None,
    expect: Expected = None,
    allow_speech: Speech = False,
    allow_flashes: Flashes = False,
    report: Report = None,
    json: AsJson = False,
) -> int:
    """Look at a video: mouths, motion, light, colour, noise, blur, cuts, its first frame and its file.

    Exit code 3 when a check failed.
    """
    from wan2_i2v.eye.files import verify_file
    from wan2_i2v.eye.report import write_report
    from wan2_i2v.request import describe_path

    path = describe_path(video)
    out = None if report is None else _report_path(report)
    picture = None if against is None else describe_path(against)
    seen = verify_file(
        path, picture, None if expect is None else expect.value, allow_speech=allow_speech, allow_flashes=allow_flashes
    )
    if out is not None:
        write_report(seen, out, path.name)
    if json:
        checks = [check.model_dump(mode="json") for check in seen.checks]
        output.result({"video": str(path), "passed": seen.passed, "checks": checks})
    else:
        _show(path, seen)
    return 0 if seen.passed else VerificationFailed.exit_code


def _report_path(report: str) -> Path:
    from wan2_i2v.eye.report import check_place

    path = Path(report).expanduser()
    if path.suffix.lower() not in (".html", ".png"):
        raise InvalidRequest("report", report, "a file name ending in .html or .png")
    if not path.absolute().parent.is_dir():
        raise InvalidRequest("report", report, "a file in a folder that exists", "Make the folder first.")
    check_place(path)
    return path


def _show(path: Path, seen: Examination) -> None:
    from wan2_i2v.eye.report import numbers_of, verdict_of

    typer.echo(f"{path}: {'passed' if seen.passed else 'FAILED'}")
    for check in seen.checks:
        verdict = verdict_of(check)
        numbers = f" [{numbers_of(check)}]" if check.value is not None and check.limit is not None else ""
        remedy = f" Try {check.remedy}." if check.remedy else ""
        typer.echo(
            f"  {verdict.upper() if verdict == 'failed' else verdict:9}  {check.name}: {check.message}{numbers}{remedy}"
        )
