"""Reading clips of this program and of others, whole and damaged."""

from __future__ import annotations

import contextlib

import av
import numpy as np
import pytest

import clips
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media import reader
from wan2_i2v.media.writer import write_clip


def foreign(path, matrix, tag, *, codec="libx264", height=96, flat=None, rotation=None):
    """A clip of 4 flat frames, converted with `matrix` and tagged `tag` by means of FFmpeg alone."""
    frame = np.full((height, 128, 3), flat or (200, 40, 90), np.uint8)
    with av.open(path, "w", format="mp4") as output:
        stream = output.add_stream(codec, rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, height, "yuv420p"
        stream.codec_context.colorspace = tag
        for index in range(4):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix
            )
            picture.colorspace, picture.pts = tag, index
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return frame


@pytest.mark.parametrize(
    ("matrix", "tag", "height"),
    [("ITU709", 1, 96), ("ITU601", 5, 96), ("ITU601", 6, 96), ("ITU601", 2, 96), ("ITU709", 2, 720)],
)
def test_colours_follow_the_tags(matrix, tag, height, tmp_path):
    path = tmp_path / "other.mp4"
    wanted = foreign(path, matrix, tag, height=height)
    assert reader.probe(path).matrix == tag
    for frame in reader.frames(path):
        assert np.abs(frame.astype(int) - wanted).max() <= 4


def test_facts_of_another_codec(tmp_path):
    path = tmp_path / "other.mp4"
    foreign(path, "ITU709", 1, codec="mpeg4")
    facts = reader.probe(path)
    assert (facts.container, facts.codec, facts.frames, facts.fps) == ("mp4", "mpeg4", 4, 10)
    assert (facts.width, facts.height, facts.duration_s, facts.rotation) == (128, 96, 0.4, 0)


@pytest.mark.parametrize("container", ["mp4", "webp"])
def test_a_truncated_clip_is_refused(container, tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(reader.frames(truncated(container, tmp_path)))


@pytest.mark.parametrize("container", ["webm", "gif"])
def test_a_truncated_stream_never_passes_for_whole(container, tmp_path):
    """The beginning of a WebM is a whole file; for GIF it depends on the FFmpeg version."""
    path = truncated(container, tmp_path)
    found = 0
    with contextlib.suppress(InvalidRequest):
        for _ in reader.frames(path):
            found += 1
    assert 0 < found < 30


def truncated(container, folder):
    """The first half of a clip of 30 frames."""
    path = folder / "clip"
    write_clip(path, clips.moving(30), clips.form(container))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 4096, b"RIFF\0\0\0\0WEBPVP8X"])
def test_what_is_no_clip_is_named(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    for read in (reader.probe, lambda path: list(reader.frames(path))):
        with pytest.raises(InvalidRequest, match=r"video: got .*broken\.mp4.*cannot be read"):
            read(path)


def test_sound_alone_is_no_clip(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as output:
        stream = output.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    with pytest.raises(InvalidRequest, match="a file with a video stream"):
        reader.probe(path)


def test_a_clip_without_a_whole_frame_is_refused(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, clips.moving(5), clips.form("mp4"))
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(InvalidRequest, match=r"clip\.mp4"):
        reader.probe(path)
    with pytest.raises(InvalidRequest, match=r"clip\.mp4"):
        list(reader.frames(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match="a file that exists"):
        reader.probe(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize("gone", [0, 3])
def test_a_gap_in_a_folder_of_frames_is_named(gone, tmp_path):
    path = tmp_path / "clip"
    write_clip(path, clips.moving(6), clips.form("png"))
    (path / f"frame-{gone:05d}.png").unlink()
    with pytest.raises(InvalidRequest, match=f"without frame-{gone:05d}.png"):
        reader.probe(path)


def test_an_empty_folder_is_no_clip(tmp_path):
    with pytest.raises(InvalidRequest, match=r"without frame-00000\.png"):
        reader.probe(tmp_path)
