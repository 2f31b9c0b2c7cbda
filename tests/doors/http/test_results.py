"""Files of a finished clip: as one file, its first frame, a sheet of frames."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from wan2_i2v.doors.http import results
from wan2_i2v.media.formats import frame_name

COLOURS = [(index * 12, 0, 255 - index * 12) for index in range(20)]


@pytest.fixture
def frames(tmp_path):
    """A clip of 20 PNG frames of 320 × 160 pixels, each of one colour."""
    folder = tmp_path / "a.b-frames"
    folder.mkdir()
    for index, colour in enumerate(COLOURS):
        Image.new("RGB", (320, 160), colour).save(folder / frame_name(index))
    return folder


def test_frames_become_an_archive_once(frames, tmp_path):
    archive = results.whole(frames, tmp_path)
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == [frame_name(index) for index in range(20)]
        assert opened.testzip() is None
    before = archive.stat()
    assert results.whole(frames, tmp_path).stat() == before
    assert results.media_type(frames) == "application/zip"


def test_a_file_stays_as_it_is(tmp_path):
    clip = tmp_path / "v.webm"
    clip.write_bytes(b"x")
    assert results.whole(clip, tmp_path) == clip
    assert results.media_type(clip) == "video/webm"


def test_the_first_frame_and_the_sheet(frames, tmp_path):
    with Image.open(results.thumbnail(frames, tmp_path)) as first:
        assert (first.format, first.size) == ("WEBP", (320, 160))
    with Image.open(results.spritesheet(frames, tmp_path)) as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (4 * 256, 4 * 128))
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    for index, (row, column) in ((0, (0, 0)), (19, (3, 3))):
        centre = pixels[row * 128 + 64, column * 256 + 128]
        assert np.abs(centre - COLOURS[index]).max() < 8
