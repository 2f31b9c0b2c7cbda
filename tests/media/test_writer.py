"""Writing clips: what is in the file, what it costs, and what an interruption leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import clips
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media import reader
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip


@pytest.mark.parametrize("container", clips.CONTAINERS)
@pytest.mark.parametrize("count", [1, 2, 30])
def test_every_frame_arrives_in_order(container, count, tmp_path):
    path = tmp_path / "clip"
    assert write_clip(path, clips.moving(count), clips.form(container)) == count
    assert reader.probe(path).frames == count
    for frame, wanted in zip(reader.frames(path), clips.moving(count), strict=True):
        assert np.abs(frame.astype(int) - wanted).mean() < 10


@pytest.mark.parametrize("container", clips.TIMED)
@pytest.mark.parametrize("fps", [24, 16, 23.976, 12.5, 30])
def test_rate_and_duration(container, fps, tmp_path):
    path, count = tmp_path / "clip", 25
    write_clip(path, clips.moving(count), clips.form(container, fps))
    facts = reader.probe(path)
    tick = {"gif": 0.01, "mp4": 1e-4}.get(container, 0.001)
    assert facts.duration_s == pytest.approx(count / fps, abs=2 * tick)
    assert facts.fps == pytest.approx(fps, rel=2 * tick * fps / count + 1e-5)


def test_gif_spreads_hundredths_of_a_second(tmp_path):
    path = tmp_path / "clip.gif"
    write_clip(path, clips.moving(24), clips.form("gif", 24))
    with Image.open(path) as image:
        delays = []
        for index in range(image.n_frames):
            image.seek(index)
            delays.append(image.info["duration"])
        assert image.info["loop"] == 0
    assert set(delays) == {40, 50}
    assert sum(delays) == 1000


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_colours_survive(container, tmp_path):
    path = tmp_path / "clip"
    write_clip(path, [clips.patches()] * 3, clips.form(container, crf=10))
    *_, last = reader.frames(path)
    spots = last[16::32, 24::48].astype(int)
    assert np.abs(spots - clips.patches()[16::32, 24::48]).max() <= 3


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_video_is_tagged_bt709_and_limited_range(container, tmp_path):
    path = tmp_path / "clip"
    write_clip(path, clips.moving(3), clips.form(container))
    facts = reader.probe(path)
    assert (facts.matrix, facts.primaries, facts.transfer, facts.full_range) == (1, 1, 1, False)
    assert facts.pix_fmt == "yuv420p"


def test_mp4_can_be_played_while_it_loads(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, clips.moving(10), clips.form("mp4"))
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("container", ["mp4", "webm", "webp"])
def test_crf_trades_size_for_quality(container, tmp_path):
    sizes = []
    for crf in (5, 45):
        path = tmp_path / f"clip{crf}"
        write_clip(path, clips.moving(10), clips.form(container, crf=crf))
        sizes.append(path.stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_same_frames_same_bytes(container, tmp_path):
    for name in ("a", "b"):
        write_clip(tmp_path / name, clips.moving(12), clips.form(container))
    assert clips.digest(tmp_path / "a") == clips.digest(tmp_path / "b")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to hide cores")
@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_bytes_do_not_depend_on_the_number_of_cores(container, tmp_path):
    cores = os.sched_getaffinity(0)
    form = ClipFormat(container, 320, 192, 24, 18)
    write_clip(tmp_path / "all", clips.moving(12, 320, 192), form)
    try:
        os.sched_setaffinity(0, {min(cores)})
        write_clip(tmp_path / "one", clips.moving(12, 320, 192), form)
    finally:
        os.sched_setaffinity(0, cores)
    assert clips.digest(tmp_path / "all") == clips.digest(tmp_path / "one")


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_few_frames_are_alive_at_a_time(container, tmp_path):
    alive: list[weakref.ref] = []
    most = 0

    def watched():
        nonlocal most
        for frame in clips.moving(60):
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    write_clip(tmp_path / "clip", watched(), clips.form(container))
    assert most <= 3


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_an_error_of_the_frames_leaves_nothing_behind(container, tmp_path):
    def broken():
        yield from clips.moving(5)
        raise RuntimeError("the decoder stopped")

    with pytest.raises(RuntimeError, match="the decoder stopped"):
        write_clip(tmp_path / "clip", broken(), clips.form(container))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_an_error_leaves_the_earlier_clip(container, tmp_path):
    path = tmp_path / "clip"
    write_clip(path, clips.moving(3), clips.form(container))
    before = clips.digest(path)
    with pytest.raises(InvalidRequest, match="frame 1"):
        write_clip(path, [clips.texture(), clips.texture()[:32]], clips.form(container))
    assert clips.digest(path) == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_a_later_clip_replaces_an_earlier_one(container, tmp_path):
    path = tmp_path / "clip"
    for count in (5, 3):
        write_clip(path, clips.moving(count), clips.form(container))
    assert reader.probe(path).frames == 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_no_frames_are_refused(container, tmp_path):
    with pytest.raises(InvalidRequest, match="at least one"):
        write_clip(tmp_path / "clip", [], clips.form(container))
    assert list(tmp_path.iterdir()) == []


WRITE_NOISE = """
import sys, numpy as np
from pathlib import Path
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip
noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
write_clip(Path(sys.argv[1]), noise, ClipFormat(sys.argv[2], 96, 64, 24, 5))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
@pytest.mark.parametrize("container", clips.CONTAINERS)
def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(container, tmp_path):
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    command = [sys.executable, "-c", WRITE_NOISE, str(tmp_path / "clip"), container]
    result = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "OSError: [Errno 27] File too large" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (0.01, Fraction(1, 100)),
    ],
)
def test_rates_are_exact_fractions(fps, rate):
    assert clips.form("mp4", fps).rate == rate


@pytest.mark.parametrize(("container", "fps"), [("gif", 60), ("mp4", 0.001), ("webm", 300)])
def test_rates_that_a_container_cannot_keep(container, fps):
    with pytest.raises(InvalidRequest, match=f"fps: got {fps}"):
        clips.form(container, fps)


def test_png_frames_are_numbered_and_lossless(tmp_path):
    path = tmp_path / "clip-frames"
    write_clip(path, clips.moving(12), clips.form("png"))
    assert [file.name for file in sorted(path.iterdir())] == [f"frame-{index:05d}.png" for index in range(12)]
    assert all(np.array_equal(*pair) for pair in zip(reader.frames(path), clips.moving(12), strict=True))


def test_gif_frames_differ_where_the_clip_moves(tmp_path):
    path = tmp_path / "clip.gif"
    write_clip(path, clips.moving(6, speed=3), clips.form("gif"))
    assert all(np.abs(a.astype(int) - b).mean() > 2 for a, b in pairwise(reader.frames(path)))
