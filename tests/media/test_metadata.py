"""The record inside a clip's file: it survives any text, changes no frame, and never replaces what is not its own."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import clips
from wan2_i2v.errors import InvalidRequest, OutputError
from wan2_i2v.media import metadata, reader
from wan2_i2v.media.writer import write_clip

RECORD = {"plan": {"prompt": 'Eine Katze läuft über 雪, 🐈\n"quoted" \\ \t', "seed": 2**63 - 1}, "request": {}}
LONG = {"plan": {"prompt": "😀" * 20_000, "negative_prompt": "é漢" * 10_000}, "request": {"prompt": "😀" * 20_000}}


@pytest.fixture(params=clips.CONTAINERS)
def container(request):
    return request.param


@pytest.fixture
def clip(container, tmp_path):
    path = tmp_path / "clip"
    write_clip(path, clips.moving(10), clips.form(container))
    return path


@pytest.mark.parametrize("record", [RECORD, LONG, {}], ids=["unicode", "long", "empty"])
def test_round_trip(record, clip, container, tmp_path):
    metadata.embed(clip, tmp_path / "out", container, record, overwrite=False)
    assert metadata.read(tmp_path / "out") == record


def test_frames_and_clock_stay_as_they_are(clip, container, tmp_path):
    metadata.embed(clip, tmp_path / "out", container, RECORD, overwrite=False)
    before, after = reader.probe(clip), reader.probe(tmp_path / "out")
    assert after.frames == before.frames
    assert (after.fps, after.matrix, after.full_range) == (before.fps, before.matrix, before.full_range)
    assert after.duration_s == pytest.approx(before.duration_s, abs=0.0011) if before.duration_s else True
    pairs = zip(reader.frames(clip), reader.frames(tmp_path / "out"), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_one_frame_is_enough(container, tmp_path):
    write_clip(tmp_path / "clip", clips.moving(1), clips.form(container))
    metadata.embed(tmp_path / "clip", tmp_path / "out", container, RECORD, overwrite=False)
    assert metadata.read(tmp_path / "out") == RECORD
    assert reader.probe(tmp_path / "out").frames == 1


def test_equal_inputs_give_equal_bytes(clip, container, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        metadata.embed(clip, tmp_path / name / "out", container, RECORD, overwrite=False)
    assert clips.digest(tmp_path / "a" / "out") == clips.digest(tmp_path / "b" / "out")


def test_an_existing_target_is_kept(clip, container, tmp_path):
    target = tmp_path / "out"
    metadata.embed(clip, target, container, {"plan": 1}, overwrite=False)
    before = clips.digest(target)
    with pytest.raises(OutputError, match=r"out exists\. Say --overwrite to replace it, or choose another --output"):
        metadata.embed(clip, target, container, {"plan": 2}, overwrite=False)
    assert clips.digest(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "out"]


def test_overwrite_replaces_it(clip, container, tmp_path):
    target = tmp_path / "out"
    for number in (1, 2):
        metadata.embed(clip, target, container, {"plan": number}, overwrite=True)
    assert metadata.read(target) == {"plan": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "out"]


def test_the_same_video_again_is_no_conflict(clip, container, tmp_path):
    target = tmp_path / "out"
    for _ in range(2):
        metadata.embed(clip, target, container, RECORD, overwrite=False)
    assert metadata.read(target) == RECORD


def test_a_foreign_file_is_kept(clip, container, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"holiday pictures")
    with pytest.raises(OutputError, match="out exists"):
        metadata.embed(clip, target, container, RECORD, overwrite=False)
    assert target.read_bytes() == b"holiday pictures"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_replaced(overwrite, tmp_path):
    write_clip(tmp_path / "clip", clips.moving(3), clips.form("png"))
    metadata.embed(tmp_path / "clip", tmp_path / "out", "png", RECORD, overwrite=False)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        metadata.embed(tmp_path / "clip", tmp_path / "out", "png", {"plan": 2}, overwrite=overwrite)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_crash_between_leaves_the_target_free(clip, container, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", _crash)
    monkeypatch.setattr(Path, "rename", _crash)
    with pytest.raises(KeyboardInterrupt):
        metadata.embed(clip, tmp_path / "out", container, RECORD, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def _crash(*_):
    raise KeyboardInterrupt


def test_other_programs_see_the_record(clip, container, tmp_path):
    target = tmp_path / "out"
    metadata.embed(clip, target, container, RECORD, overwrite=False)
    if container in ("mp4", "webm"):
        with av.open(target) as file:
            text = {key.lower(): value for key, value in file.metadata.items()}["comment"]
    else:
        with Image.open(target / "frame-00000.png" if container == "png" else target) as image:
            image.load()
            text = {
                "gif": lambda: image.info["comment"],
                "webp": lambda: image.getexif()[0x010E],
                "png": lambda: image.text["wan2_i2v"],
            }[container]()
    assert json.loads(text) == {"wan2_i2v": RECORD}


def test_a_clip_without_record_says_so(clip):
    with pytest.raises(InvalidRequest, match="carries no record"):
        metadata.read(clip)


@pytest.mark.parametrize("comment", ["hello", "[1]", '{"other": 1}', '{"wan2_i2v": 3}'])
def test_comments_of_others_are_no_records(comment, tmp_path):
    path = tmp_path / "other.gif"
    Image.fromarray(clips.texture()).save(path, comment=comment.encode())
    with pytest.raises(InvalidRequest, match="carries no record"):
        metadata.read(path)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100, b"\0" * 5000])
def test_what_is_no_video_is_named(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"broken\.mp4.*cannot be read"):
        metadata.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"nowhere\.mp4.*a file that exists"):
        metadata.read(tmp_path / "nowhere.mp4")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_any_text_survives(text, clip, container, tmp_path):
    metadata.embed(clip, tmp_path / "out", container, {"plan": text}, overwrite=True)
    assert metadata.read(tmp_path / "out") == {"plan": text}


def test_file_systems_without_links(clip, container, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    metadata.embed(clip, tmp_path / "out", container, {"plan": 1}, overwrite=False)
    assert metadata.read(tmp_path / "out") == {"plan": 1}
    with pytest.raises(OutputError):
        metadata.embed(clip, tmp_path / "out", container, {"plan": 2}, overwrite=False)


def test_of_many_writers_one_wins(clip, container, tmp_path):
    def write(number):
        try:
            metadata.embed(clip, tmp_path / "out", container, {"plan": number}, overwrite=False)
        except OutputError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(8)) if number is not None]
    assert len(winners) == 1
    assert metadata.read(tmp_path / "out") == {"plan": winners[0]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "out"]
