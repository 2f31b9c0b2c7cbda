"""An examination as something to look at: one PNG, and one HTML page with it and all verdicts. Imported by doors.

Contact sheet, plots of motion and brightness over time, and crops of the faces whose mouth moved. A PNG stands alone, so it
begins with the verdict and what is behind it; a page has a table of all checks.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from wan2_i2v.errors import OutputError, writing
from wan2_i2v.eye.clip import Examination
from wan2_i2v.eye.faces import Picture
from wan2_i2v.eye.series import LAG, Floats, Series
from wan2_i2v.record import Check
from wan2_i2v.workspace import replacing

WIDTH, GAP, PLOT = 1000, 8, 150
INK, PAPER, FAINT, TROUBLE, LINE = "#1c2024", "#ffffff", "#d9dde2", "#f7c9c4", "#2563c9"
SHOWN = 10
LETTERS = 140
"""Of the small font that surely fit into a line."""
FACE_COLUMNS = 6
MARK = "report of wan2-i2v verify"
"""What a report says of itself in its first bytes."""


def check_place(out: Path) -> None:
    """Raise OutputError when `out` is taken by what is no report: only an earlier report is replaced."""
    with writing(out, "Choose another --report."):
        if not out.exists():
            return
        with out.open("rb") as file:
            mine = MARK.encode() in file.read(4096)
    if not mine:
        raise OutputError(f"{out} exists and is no report of this program; move it, or choose another --report.")


def write_report(seen: Examination, out: Path, title: str) -> None:
    """Write the report to `out`, a .png or an .html file, atomically.

    Raises OutputError, as `check_place` and for a place that cannot be written.
    """
    check_place(out)
    png = out.suffix.lower() == ".png"
    picture = draw(seen, title if png else None)
    with writing(out, "Choose another --report."), replacing(out) as temporary:
        if png:
            info = PngImagePlugin.PngInfo()
            info.add_text("Software", MARK)
            picture.save(temporary, format="PNG", optimize=True, pnginfo=info)
        else:
            temporary.write_text(page(seen, picture, title), encoding="utf-8")


def draw(seen: Examination, title: str | None = None) -> Image.Image:
    """The pictures of a report, one below the other, WIDTH px wide; the verdict above them where a `title` is given."""
    rows = [] if title is None else [_heading(seen, title)]
    rows.append(_sheet(seen))
    if seen.series is not None and len(seen.series) > 1:
        rows += _plots(seen.series, seen)
    faces = _faces(seen)
    if faces is not None:
        rows.append(faces)
    height = sum(row.height + GAP for row in rows) + GAP
    whole = Image.new("RGB", (WIDTH, height), PAPER)
    top = GAP
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height + GAP
    return whole


def page(seen: Examination, picture: Image.Image, title: str) -> str:
    """A page that needs no other file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    image = base64.b64encode(buffer.getvalue()).decode()
    rows = "\n".join(_row(check) for check in seen.checks)
    verdict = "passed" if seen.passed else "failed"
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="generator" content="{MARK}"><title>{name}: {verdict}</title><style>'
        "body{font:15px/1.45 system-ui,sans-serif;max-width:1020px;margin:1.5rem auto;padding:0 1rem;color:#1c2024}"
        "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-top:1px solid #d9dde2;"
        "vertical-align:top}.failed{background:#fde8e6}.unsure{background:#fff6da}.unchecked{color:#667}img{max-width:100%}"
        f"</style><h1>{name}: {verdict}</h1>"
        f'<img alt="Frames, motion and brightness over time, faces" src="data:image/png;base64,{image}">'
        "<table><tr><th>check<th>verdict<th>value<th>fails above<th>good clips reach<th>damaged ones start at<th>what was seen<th>try"
        f"{rows}</table></html>\n"
    )


def verdict_of(check: Check) -> str:
    """passed, failed, unsure or unchecked."""
    return "failed" if not check.passed else "passed" if check.state == "judged" else check.state


def numbers_of(check: Check) -> str:
    """The score, its limit, and what the limit was measured on, in words."""
    told = f"{_number(check.value)}, limit {_number(check.limit)}"
    if check.margin is None:
        return told
    return f"{told}; good clips to {check.margin.good:g}, damaged from {check.margin.bad:g}"


def _row(check: Check) -> str:
    verdict = verdict_of(check)
    margin = (_number(check.margin.good), _number(check.margin.bad)) if check.margin else ("", "")
    numbers = (_number(check.value), _number(check.limit), *margin)
    cells = (check.name, verdict, *numbers, check.message, check.remedy or "")
    return f'<tr class="{verdict}">' + "".join(f"<td>{html.escape(cell)}" for cell in cells)


def _number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def _heading(seen: Examination, title: str) -> Image.Image:
    """The verdict, then a line for each check that failed or is in doubt, with its numbers."""
    told = [check for check in seen.checks if verdict_of(check) in ("failed", "unsure")]
    lines = [f"{title}: {'passed' if seen.passed else 'failed'}"]
    for check in told:
        numbers = f" [{numbers_of(check)}]" if check.value is not None and check.limit is not None else ""
        lines += textwrap.wrap(
            f"{verdict_of(check)}  {check.name}: {check.message}{numbers}", LETTERS, subsequent_indent="    "
        )
    if not told:
        unchecked = sum(check.state == "unchecked" for check in seen.checks)
        lines.append(f"{len(seen.checks) - unchecked} checks passed, {unchecked} had nothing to look at")
    picture = Image.new("RGB", (WIDTH, 16 + 20 * len(lines)), PAPER)
    draw = ImageDraw.Draw(picture)
    for index, line in enumerate(lines):
        font = ImageFont.load_default(17 if index == 0 else 13)
        # The font that comes with Pillow has no dash but this one.
        draw.text((GAP, 4 + 20 * index + (4 if index else 0)), line.replace("–", "-"), font=font, fill=INK)
    return picture


def _sheet(seen: Examination) -> Image.Image:
    """Up to SHOWN evenly spaced frames with their times."""
    pages = seen.thumbnails
    if not pages:
        return _labelled(Image.new("RGB", (WIDTH, 40), FAINT), "no frames")
    chosen = [pages[i] for i in np.unique(np.linspace(0, len(pages) - 1, min(SHOWN, len(pages))).round().astype(int))]
    columns = min(5, len(chosen))
    width = (WIDTH - GAP * (columns + 1)) // columns
    tiles = [_labelled(_fitted(frame, width), f"{index / seen.fps:.2f} s") for index, frame in chosen]
    return _grid(tiles, columns)


def _faces(seen: Examination) -> Image.Image | None:
    """Crops of the faces whose mouth moved or may have."""
    width = (WIDTH - GAP * (FACE_COLUMNS + 1)) // FACE_COLUMNS
    tiles = [
        _labelled(_fitted(crop, width), f"{index / seen.fps:.2f} s {face.mouth.verdict}")
        for face in seen.faces
        if face.mouth.verdict in ("talking", "moves", "unsure")
        for index, crop in face.crops
    ]
    return _grid(tiles[: 2 * FACE_COLUMNS], FACE_COLUMNS) if tiles else None


def _grid(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    height = max(tile.height for tile in tiles)
    rows = -(-len(tiles) // columns)
    whole = Image.new("RGB", (WIDTH, rows * (height + GAP) - GAP), PAPER)
    for index, tile in enumerate(tiles):
        whole.paste(tile, (GAP + index % columns * (tile.width + GAP), index // columns * (height + GAP)))
    return whole


def _fitted(frame: Picture, width: int) -> Image.Image:
    picture = Image.fromarray(frame)
    height = min(max(1, round(picture.height * width / picture.width)), 2 * width)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _labelled(picture: Image.Image, text: str) -> Image.Image:
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    box = draw.textbbox((4, 3), text, font=font)
    draw.rectangle((0, 0, box[2] + 4, box[3] + 3), fill=INK)
    draw.text((4, 3), text, font=font, fill=PAPER)
    return picture


def _plots(series: Series, seen: Examination) -> list[Image.Image]:
    flow = np.r_[np.full(min(LAG, len(series)), np.nan), series.flow]
    failed = [check for check in seen.checks if not check.passed and check.spans]
    spans = [span for check in failed for span in check.spans]
    shaded = f"; shaded where these failed: {', '.join(check.name for check in failed)}" if failed else ""
    titles = (f"motion: optical flow over {LAG} frames, % of the diagonal", "brightness: mean luma, 0 to 255")
    return [
        _plot(flow[: len(series)], titles[0] + shaded, seen.fps, spans),
        _plot(series.mean, titles[1] + shaded, seen.fps, spans),
    ]


def _plot(values: Floats, title: str, fps: float, spans: Sequence[tuple[float, float]]) -> Image.Image:
    """Values over time from zero up; `spans` (seconds) shaded where a check failed."""
    picture = Image.new("RGB", (WIDTH, PLOT), PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    left, right, top, bottom = 56, WIDTH - 12, 24, PLOT - 22
    finite = values[np.isfinite(values)]
    highest = float(finite.max()) * 1.1 if len(finite) and finite.max() > 0 else 1.0
    length = max(len(values) - 1, 1)

    def x(frame: float) -> float:
        return left + (right - left) * min(max(frame / length, 0.0), 1.0)

    for begin, end in spans:
        draw.rectangle((x(begin * fps), top, max(x(end * fps), x(begin * fps) + 2), bottom), fill=TROUBLE)
    draw.rectangle((left, top, right, bottom), outline=FAINT)
    draw.text((left, 4), title, font=font, fill=INK)
    draw.text((4, top - 6), f"{highest:.3g}", font=font, fill=INK)
    draw.text((4, bottom - 8), "0", font=font, fill=INK)
    draw.text((left, bottom + 4), "0 s", font=font, fill=INK)
    end_label = f"{length / fps:.2f} s"
    draw.text((right - draw.textlength(end_label, font=font), bottom + 4), end_label, font=font, fill=INK)
    points = [(x(i), bottom - (bottom - top) * value / highest) for i, value in enumerate(values) if np.isfinite(value)]
    if len(points) > 1:
        draw.line(points, fill=LINE, width=2)
    return picture
