"""Plots of figures as PNG, drawn with Pillow: bars with intervals. Imported by `report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 900, 26, 330, 90, 40, 30
INK, PAPER, FAINT, BAR, WHISKER = "#1c2024", "#ffffff", "#d9dde2", "#7aa7e0", "#14305c"
TICKS = 5


@dataclass(frozen=True)
class Bar:
    """One row: `value` with the interval `low` to `high`, where there is one, and a note at its right."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str


def bars(title: str, rows: Sequence[Bar], highest: float, unit: str = "") -> Image.Image:
    """Horizontal bars from 0 to `highest`; `unit` follows the numbers of the axis."""
    height = TOP + ROW * len(rows) + BOTTOM
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    span = WIDTH - LEFT - RIGHT
    draw.text((12, 12), title, font=ImageFont.load_default(16), fill=INK)
    for tick in range(TICKS + 1):
        x = LEFT + span * tick / TICKS
        draw.line((x, TOP, x, height - BOTTOM), fill=FAINT)
        text = f"{highest * tick / TICKS:.3g}{unit}"
        draw.text((x - draw.textlength(text, font=font) / 2, height - BOTTOM + 6), text, font=font, fill=INK)
    for index, row in enumerate(rows):
        middle = TOP + ROW * index + ROW / 2
        label = _cut(draw, font, row.label, LEFT - 24)
        draw.text((LEFT - 12 - draw.textlength(label, font=font), middle - 8), label, font=font, fill=INK)

        def x_of(value: float) -> float:
            return LEFT + span * min(max(value / highest, 0.0), 1.0)

        draw.rectangle((LEFT, middle - 7, x_of(row.value), middle + 7), fill=BAR)
        if row.low is not None and row.high is not None:
            draw.line((x_of(row.low), middle, x_of(row.high), middle), fill=WHISKER, width=2)
            for end in (row.low, row.high):
                draw.line((x_of(end), middle - 5, x_of(end), middle + 5), fill=WHISKER, width=2)
        draw.text((WIDTH - RIGHT + 8, middle - 8), row.note, font=font, fill=INK)
    return picture


def _cut(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str, width: int) -> str:
    """The text, shortened at its end where it is wider than `width` px."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"
