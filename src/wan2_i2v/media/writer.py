"""Frames in, a clip on disk out, as a stream: `write_clip`. Imported by the decode stage.

The same frames give the same bytes on every machine: encoders get a fixed number of threads and, as the converters, are
told to round alike on every processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.container import OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream
from PIL import Image

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media.formats import ClipFormat, frame_name
from wan2_i2v.workspace import replacing, replacing_folder

Frame = npt.NDArray[np.uint8]
"""One picture: height × width × 3, RGB, 0 to 255."""

THREADS = 4
"""Never the machine's number of cores: the encoders' output depends on it."""

EXACT = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
"""swscale flags: no rounding that depends on the processor, chroma from every pixel."""

BT709 = 1
"""The number of BT.709 as matrix, primaries and transfer in ITU-T H.273."""

TV_RANGE = 1
"""AVCOL_RANGE_MPEG: luma in 16 to 235."""


@dataclass(frozen=True)
class _Encoder:
    """FFmpeg's name of an encoder, its pixel format, and the options of encoder and muxer."""

    codec: str
    pixels: str
    options: dict[str, str]
    muxer: dict[str, str]


def _encoder(clip: ClipFormat) -> _Encoder:
    crf = str(clip.crf)
    if clip.container == "mp4":
        options = {"crf": crf, "preset": "medium", "x264-params": "cpu-independent=1"}
        return _Encoder("libx264", "yuv420p", options, {"movflags": "+faststart", "fflags": "+bitexact"})
    if clip.container == "webm":
        options = {"crf": crf, "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "0", "tile-columns": "1"}
        return _Encoder("libvpx-vp9", "yuv420p", options, {"fflags": "+bitexact"})
    if clip.container == "webp":
        options = {"quality": str(100 - clip.crf), "compression_level": "4"}
        return _Encoder("libwebp_anim", "bgra", options, {"loop": "0"})
    return _Encoder("gif", "pal8", {}, {"loop": "0"})


def write_clip(path: Path, frames: Iterable[Frame], clip: ClipFormat) -> int:
    """Write `frames` to `path` and return how many there were. Atomic: `path` is there whole or not at all.

    Holds a few frames at a time, whatever their number. An error of `frames` passes through and leaves nothing behind.

    Raises InvalidRequest for no frames at all or a frame that is not `clip`'s height × width × 3 of uint8.
    """
    checked = _checked(frames, clip)
    if clip.container == "png":
        with replacing_folder(path) as folder:
            return _write_pictures(folder, checked)
    with replacing(path) as temporary:
        return _write_video(temporary, checked, clip)


def _checked(frames: Iterable[Frame], clip: ClipFormat) -> Iterator[Frame]:
    """The frames again, each looked at; at least one."""
    count = 0
    for count, frame in enumerate(frames, start=1):
        if frame.shape != (clip.height, clip.width, 3) or frame.dtype != np.uint8:
            given = f"{frame.dtype} {frame.shape}"
            raise InvalidRequest(f"frame {count - 1}", given, f"uint8 ({clip.height}, {clip.width}, 3)")
        yield frame
    if not count:
        raise InvalidRequest("frames", [], "at least one")


def _write_pictures(folder: Path, frames: Iterable[Frame]) -> int:
    count = 0
    for frame in frames:
        Image.fromarray(frame).save(folder / frame_name(count))
        count += 1
    return count


def _write_video(path: Path, frames: Iterator[Frame], clip: ClipFormat) -> int:
    encoder = _encoder(clip)
    count = 0
    with av.open(path, "w", format=clip.container, options=encoder.muxer) as output:
        stream = _add_stream(output, clip, encoder)
        graph = _graph(clip, encoder)
        for count, frame in enumerate(frames, start=1):
            source = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            source.pts, source.time_base = count - 1, 1 / clip.rate
            graph.vpush(source)
            _encode(graph, stream, output)
        graph.vpush(None)
        _encode(graph, stream, output)
        output.mux(stream.encode(None))
    return count


def _add_stream(output: OutputContainer, clip: ClipFormat, encoder: _Encoder) -> VideoStream:
    stream = cast(VideoStream, output.add_stream(encoder.codec, rate=clip.rate, options=encoder.options))
    stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, encoder.pixels
    context = stream.codec_context
    context.time_base = 1 / clip.rate
    context.thread_count = THREADS
    context.flags |= Flags.bitexact
    if encoder.pixels == "yuv420p":
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = TV_RANGE
    return stream


def _graph(clip: ClipFormat, encoder: _Encoder) -> Graph:
    """Filters from RGB frames to what the encoder takes.

    For YUV the matrix is named: swscale takes BT.601 for RGB input, whatever the stream is tagged. GIF gets one palette
    per frame, since a palette for the whole clip needs all its frames in memory, and a regular dither pattern, which
    does not crawl from frame to frame.
    """
    graph = Graph()
    pixels = av.VideoFormat("rgb24", clip.width, clip.height)
    source = graph.add_buffer(width=clip.width, height=clip.height, format=pixels, time_base=1 / clip.rate)
    sink = graph.add("buffersink")
    if encoder.pixels == "pal8":
        split, use = graph.add("split"), graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        graph.link_nodes(source, split, use, sink)
        split.link_to(palette, output_idx=1)
        palette.link_to(use, input_idx=1)
    else:
        scale = graph.add("scale", f"flags={EXACT}:out_color_matrix=bt709:out_range=tv")
        graph.link_nodes(source, scale, graph.add("format", encoder.pixels), sink)
    graph.configure()
    return graph


def _encode(graph: Graph, stream: VideoStream, output: OutputContainer) -> None:
    """Hand every frame that the graph has ready to the encoder, and its packets to the file."""
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        output.mux(stream.encode(frame))
