"""What a finished job left: its record, its video, and pictures of that: the first frame, and a sheet of frames.

Comes in: a job that is done. Goes out: paths. The pictures are made once and kept in the job's folder. Blocking. Imported
by the routers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from wan2_i2v.errors import JobNotFound
from wan2_i2v.jobs.job import StoredJob
from wan2_i2v.jobs.service import Service
from wan2_i2v.media import reader
from wan2_i2v.record import Record
from wan2_i2v.workspace import replacing

MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif", ".webp": "image/webp"}

SHEET_FRAMES = 16
SHEET_COLUMNS = 4
TILE_SIDE = 256
"""The longer side of a frame in the sheet, in pixels, at most."""
QUALITY = 85


def finished(service: Service, job: StoredJob) -> tuple[Record, Path]:
    """The record of a job that is done, and its video. Raises JobNotFound when they were moved or removed."""
    record = service.record(job.id)
    if record is None or record.video is None or not Path(record.video).exists():
        raise JobNotFound(f"the video of {job.id} was moved or removed since it was made.")
    return record, Path(record.video)


def media_type(clip: Path) -> str:
    """What `whole` gives for a clip: PNG frames, which are a folder, become an archive."""
    return MEDIA_TYPES.get(clip.suffix, "application/zip")


def whole(clip: Path, folder: Path) -> Path:
    """The clip as one file: PNG frames as a ZIP archive, made once; they are compressed already."""
    if not clip.is_dir():
        return clip
    path = folder / "frames.zip"
    if not path.exists():
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for frame in sorted(clip.iterdir()):
                archive.write(frame, frame.name)
    return path


def thumbnail(clip: Path, folder: Path) -> Path:
    """The first frame at its own size, WebP. Raises InvalidRequest for a clip that cannot be read."""
    return _kept(folder / "thumbnail.webp", lambda: _frame(clip))


def spritesheet(clip: Path, folder: Path) -> Path:
    """Up to 16 evenly spaced frames in rows of 4, the first and the last among them, JPEG. Raises InvalidRequest."""
    return _kept(folder / "spritesheet.jpg", lambda: _sheet(clip))


def _kept(path: Path, make: Callable[[], Image.Image]) -> Path:
    if not path.exists():
        picture = make()
        with replacing(path) as temporary:
            picture.save(temporary, quality=QUALITY)
    return path


def _frame(clip: Path) -> Image.Image:
    return Image.fromarray(next(reader.frames(clip)))


def _sheet(clip: Path) -> Image.Image:
    total = reader.probe(clip).frames
    count = min(SHEET_FRAMES, total)
    wanted = {round(index * (total - 1) / max(1, count - 1)) for index in range(count)}
    tiles = []
    for index, frame in enumerate(reader.frames(clip)):
        if index in wanted:
            tile = Image.fromarray(frame)
            tile.thumbnail((TILE_SIDE, TILE_SIDE))
            tiles.append(tile)
    width, height = tiles[0].size
    columns = min(SHEET_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (column * width, row * height))
    return sheet
