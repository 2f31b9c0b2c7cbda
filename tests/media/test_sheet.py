"""Contact sheets: which frames, where, and from what."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import clips
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media.sheet import contact_sheet
from wan2_i2v.media.writer import write_clip


def grey(count):
    return [np.full((64, 96, 3), 10 * index, np.uint8) for index in range(count)]


def cells(path, columns, rows):
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (rows * 68 - 4, columns * 100 - 4, 3)
    return [int(pixels[row * 68 + 32, column * 100 + 48, 0]) for row in range(rows) for column in range(columns)]


def test_frames_are_evenly_spaced_with_first_and_last(tmp_path):
    contact_sheet(grey(21), tmp_path / "sheet.png", columns=3, count=5, labels=False)
    assert cells(tmp_path / "sheet.png", 3, 2) == [0, 50, 100, 150, 200, 255]


def test_short_clips_give_what_they_have(tmp_path):
    contact_sheet(grey(2), tmp_path / "sheet.png", columns=4, count=8)
    assert cells(tmp_path / "sheet.png", 2, 1) == [0, 10]


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_a_clip_on_disk(container, tmp_path):
    write_clip(tmp_path / "clip", grey(21), clips.form(container))
    contact_sheet(tmp_path / "clip", tmp_path / "sheet.png", columns=2, count=2)
    assert np.allclose(cells(tmp_path / "sheet.png", 2, 1), [0, 200], atol=3)


def test_labels_are_drawn(tmp_path):
    contact_sheet(grey(1), tmp_path / "with.png", count=1)
    assert np.asarray(Image.open(tmp_path / "with.png")).max() > 200


@pytest.mark.parametrize("name", ["columns", "count"])
def test_counts_below_one_are_refused(name, tmp_path):
    with pytest.raises(InvalidRequest, match=name):
        contact_sheet(grey(2), tmp_path / "sheet.png", **{name: 0})
