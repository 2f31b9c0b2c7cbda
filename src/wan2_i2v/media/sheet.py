"""A contact sheet: evenly spaced frames of a clip in one PNG. Imported by doors and scripts. A leaf without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media import reader
from wan2_i2v.media.reader import Frame
from wan2_i2v.workspace import replacing

GAP = 4
"""Pixels between two frames."""


def contact_sheet(
    clip: Path | Sequence[Frame], out: Path, *, columns: int = 4, count: int = 8, labels: bool = True
) -> None:
    """Write `count` evenly spaced frames of `clip`, the first and the last among them, to the PNG `out`, atomically.

    `labels` writes each frame's number, counted from 0, into its corner. A clip with fewer frames gives fewer pictures.

    Raises InvalidRequest for counts below 1 and for a path that is no clip.
    """
    for name, value in (("columns", columns), ("count", count)):
        if value < 1:
            raise InvalidRequest(name, value, "a whole number from 1")
    total = reader.probe(clip).frames if isinstance(clip, Path) else len(clip)
    wanted = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()
    chosen = _choose(reader.frames(clip) if isinstance(clip, Path) else clip, wanted)
    sheet = _arrange(
        [_labelled(frame, index) if labels else Image.fromarray(frame) for index, frame in chosen], columns
    )
    with replacing(out) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _choose(frames: Iterable[Frame], wanted: Sequence[int]) -> Iterator[tuple[int, Frame]]:
    for index, frame in enumerate(frames):
        if index in wanted:
            yield index, frame


def _labelled(frame: Frame, index: int) -> Image.Image:
    """The frame with its number in the top left corner, white on black."""
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(10, picture.height // 14))
    box = draw.textbbox((6, 4), str(index), font=font)
    draw.rectangle((0, 0, box[2] + 6, box[3] + 4), fill="black")
    draw.text((6, 4), str(index), font=font, fill="white")
    return picture


def _arrange(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (column * (width + GAP), row * (height + GAP)))
    return sheet
