"""Draws the example pictures beside this file from shapes and gradients. Run: python examples/pictures/draw.py"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
SMOOTH = 4
"""Pictures are drawn this many times larger and scaled down, which smooths the edges."""


def sky(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    """A vertical gradient, RGB, SMOOTH times as large."""
    ramp = Image.linear_gradient("L").resize((width * SMOOTH, height * SMOOTH))
    return Image.composite(Image.new("RGB", ramp.size, bottom), Image.new("RGB", ramp.size, top), ramp)


def boat() -> Image.Image:
    """A sailing boat at sunset, 288×192."""
    picture = sky(288, 192, (40, 60, 120), (250, 170, 110))
    draw = ImageDraw.Draw(picture)
    s = SMOOTH
    draw.ellipse((190 * s, 78 * s, 238 * s, 126 * s), fill=(255, 225, 150))
    sea = sky(288, 82, (225, 140, 105), (25, 50, 90))
    picture.paste(sea, (0, 110 * s))
    for row in range(12):
        for column in range(9):
            x, y = (column * 34 + row * 19) % 300 - 10, 116 + row * 6
            draw.line((x * s, y * s, (x + 10 + row) * s, y * s), fill=(245, 185, 135), width=s)
    draw.polygon([(60 * s, 128 * s), (170 * s, 128 * s), (150 * s, 150 * s), (80 * s, 150 * s)], fill=(120, 50, 40))
    draw.line((112 * s, 30 * s, 112 * s, 128 * s), fill=(70, 40, 30), width=3 * s)
    draw.polygon([(116 * s, 34 * s), (116 * s, 120 * s), (165 * s, 120 * s)], fill=(250, 245, 230))
    draw.polygon([(108 * s, 44 * s), (108 * s, 120 * s), (72 * s, 120 * s)], fill=(225, 80, 70))
    return picture.resize((288, 192), Image.Resampling.LANCZOS)


def balloon() -> Image.Image:
    """A striped hot-air balloon over hills, 192×288."""
    picture = sky(192, 288, (70, 140, 220), (215, 235, 250))
    draw = ImageDraw.Draw(picture)
    s = SMOOTH
    for left, right, top, colour in ((-60, 130, 225, (70, 130, 80)), (70, 260, 235, (90, 155, 85))):
        draw.ellipse((left * s, top * s, right * s, 400 * s), fill=colour)
    for half_width, colour in ((50, (220, 60, 60)), (33, (250, 200, 70)), (14, (60, 120, 190))):
        draw.ellipse(((96 - half_width) * s, 40 * s, (96 + half_width) * s, 150 * s), fill=colour)
    draw.line((78 * s, 142 * s, 86 * s, 172 * s), fill=(90, 60, 40), width=s)
    draw.line((114 * s, 142 * s, 106 * s, 172 * s), fill=(90, 60, 40), width=s)
    draw.rectangle((84 * s, 172 * s, 108 * s, 190 * s), fill=(140, 90, 50))
    return picture.resize((192, 288), Image.Resampling.LANCZOS)


def house() -> Image.Image:
    """A house under the moon, 256×256."""
    picture = sky(256, 256, (15, 20, 60), (70, 70, 130))
    draw = ImageDraw.Draw(picture)
    s = SMOOTH
    for number in range(40):
        x, y = (number * 67) % 256, (number * 41) % 120
        draw.ellipse((x * s, y * s, (x + 1.5) * s, (y + 1.5) * s), fill=(255, 255, 230))
    draw.ellipse((185 * s, 25 * s, 225 * s, 65 * s), fill=(250, 245, 215))
    draw.rectangle((0, 190 * s, 256 * s, 256 * s), fill=(40, 75, 55))
    draw.rectangle((70 * s, 120 * s, 180 * s, 205 * s), fill=(170, 95, 70))
    draw.polygon([(58 * s, 122 * s), (125 * s, 68 * s), (192 * s, 122 * s)], fill=(95, 45, 45))
    for x in (85, 143):
        draw.rectangle((x * s, 138 * s, (x + 24) * s, 162 * s), fill=(255, 220, 110))
    draw.rectangle((116 * s, 160 * s, 136 * s, 205 * s), fill=(80, 50, 35))
    return picture.resize((256, 256), Image.Resampling.LANCZOS)


def flower() -> Image.Image:
    """A flower before soft green, 256×256, with transparent corners."""
    picture = sky(256, 256, (120, 170, 110), (50, 100, 60)).filter(ImageFilter.GaussianBlur(12))
    draw = ImageDraw.Draw(picture)
    s = SMOOTH
    draw.line((128 * s, 128 * s, 128 * s, 250 * s), fill=(40, 110, 50), width=7 * s)
    for petal in range(9):
        angle = math.tau * petal / 9
        x, y = 128 + 44 * math.cos(angle), 112 + 44 * math.sin(angle)
        draw.ellipse([side * s for side in (x - 26, y - 26, x + 26, y + 26)], fill=(235, 120 + 8 * petal, 170))
    draw.ellipse([side * s for side in (102, 86, 154, 138)], fill=(250, 205, 70))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *picture.size), 60 * s, fill=255)
    picture.putalpha(mask)
    return picture.resize((256, 256), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    for make in (boat, balloon, house, flower):
        make().save(Path(__file__).parent / f"{make.__name__}.png", optimize=True)
