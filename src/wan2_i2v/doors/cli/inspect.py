"""`wan2-i2v inspect`: what a video's file says of itself and of how it was made."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson

Video = Annotated[
    str, typer.Argument(help="A video, GIF or WebP that wan2-i2v made, or a folder of PNG frames.", show_default=False)
]


def inspect(video: Video, json: AsJson = False) -> int:
    """Show how a video was made.

    Prints the request, plan and verification that the video carries inside, and what its file is.
    """
    from wan2_i2v.media import metadata, reader
    from wan2_i2v.request import describe_path

    path = describe_path(video)
    facts = dataclasses.asdict(reader.probe(path))
    content = {"video": str(path), "file": facts} | metadata.read(path)
    if json:
        output.result(content)
    else:
        _show(content)
    return 0


def _show(content: dict[str, Any]) -> None:
    file, plan = content["file"], content.get("plan", {})
    typer.echo(content["video"])
    rate = f" at {file['fps']:g} fps, {file['duration_s']:.3f} s" if file["fps"] and file["duration_s"] else ""
    typer.echo(
        f"file: {file['container']} {file['codec']}, {file['width']}×{file['height']}, {file['frames']} frames{rate}"
    )
    for title, section in (("request", content.get("request", {})), ("plan", plan)):
        typer.echo(f"{title}:")
        for name, value in section.items():
            typer.echo(f"  {name}: {_brief(name, value)}")
    typer.echo("verification:")
    for check in content.get("verification", {}).get("checks", ()):
        typer.echo(f"  {'passed' if check['passed'] else 'FAILED'}  {check['message']}")


def _brief(name: str, value: Any) -> str:
    """A value on one line."""
    if name == "steps":
        return ", ".join(f"{step['sigma']:.4f} {step['expert']} CFG {step['guidance_scale']:g}" for step in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
