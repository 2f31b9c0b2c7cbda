"""A clip on disk in, facts and frames out. Imported by the verify stage, the contact sheet and `inspect`. No torch."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from PIL import Image, UnidentifiedImageError

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.media.formats import frame_name

Frame = npt.NDArray[np.uint8]
"""One picture: height × width × 3, RGB, 0 to 255."""

READABLE = "a whole mp4, webm, gif or webp file"
AGAIN = "If it is a video at all, copy or download it again."

UNTAGGED = 2
UNLIKE = 0.1
"""Share by which the rate that a header tells may differ from that of the frames, as rounding makes it in short clips."""
UNEQUAL = 0.2
"""Share of the mean by which the lengths of frames differ from which on the rate is variable."""
HD_HEIGHT = 720
"""From this height on, a stream that names no matrix is taken as BT.709, below as BT.601, as players do."""


@dataclass(frozen=True)
class VideoFacts:
    """What a clip's file says of itself, and the number of frames that are in it.

    `matrix`, `primaries` and `transfer` are the numbers of ITU-T H.273 (1 is BT.709, 2 unknown). `width` and `height`
    are as stored, before `rotation` (degrees). A folder of PNG frames has no `fps` and no `duration_s`. `announced_s` is
    what the file's header says it lasts, if it does. `variable`: frames are unequally long, and `fps` is their mean.
    """

    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    frames: int
    fps: float | None
    duration_s: float | None
    matrix: int
    primaries: int
    transfer: int
    full_range: bool
    rotation: int
    announced_s: float | None = None
    variable: bool = False

    @property
    def missing_s(self) -> float:
        """Seconds that the header announces and the file does not hold: it was cut short. Less than 2 frames are 0."""
        if self.announced_s is None or not self.duration_s:
            return 0.0
        missing = self.announced_s - self.duration_s
        return missing if missing > 2 * self.duration_s / self.frames else 0.0


def probe(path: Path) -> VideoFacts:
    """The facts of a clip: a video, GIF or WebP file, or a folder of PNG frames. Counts frames without decoding all.

    Raises InvalidRequest for a path that is no clip or is damaged.
    """
    if path.is_dir():
        return _probe_pictures(path)
    with _readable(path):
        return _probe_webp(path) if _is_webp(path) else _probe_stream(path)


def frames(path: Path) -> Iterator[Frame]:
    """Every frame of a clip in order, as stored (not rotated), one at a time.

    Raises InvalidRequest for a path that is no clip, or where the damage begins.
    """
    if path.is_dir():
        for picture in _pictures(path):
            with _readable(picture), Image.open(picture) as image:
                frame = np.asarray(image.convert("RGB"))
            yield frame
    else:
        with _readable(path):
            yield from _webp_frames(path) if _is_webp(path) else _stream_frames(path)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of the decoders in this package's words."""
    if not path.is_file():
        raise InvalidRequest("video", str(path), "a file that exists", "Check the name.")
    try:
        yield
    except (av.FFmpegError, UnidentifiedImageError, OSError, EOFError) as error:
        raise InvalidRequest("video", str(path), READABLE, f"It cannot be read ({error}). {AGAIN}") from error


def _is_webp(path: Path) -> bool:
    """FFmpeg reads no animated WebP; Pillow does."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def _video(container: av.container.InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise InvalidRequest("video", str(path), "a file with a video stream", "It has none: name another file.")
    return container.streams.video[0]


def _probe_stream(path: Path) -> VideoFacts:
    with av.open(path) as container:
        stream = _video(container, path)
        clock, rate = stream.time_base, stream.average_rate
        one = int(1 / (rate * clock)) if rate and clock else 0
        packets = [(packet.pts or 0, packet.duration or one) for packet in container.demux(stream) if packet.size]
        if not packets or clock is None:
            raise InvalidRequest("video", str(path), "a video with at least one frame", f"It has none. {AGAIN}")
        begin, end = min(pts for pts, _ in packets), max(pts + duration for pts, duration in packets)
        duration = float((end - begin) * clock)
        mean = len(packets) / duration if duration else None
        container.seek(0)
        first = next(container.decode(stream), None)
        if first is None:
            raise InvalidRequest("video", str(path), READABLE, f"None of its frames can be decoded. {AGAIN}")
        context = stream.codec_context
        name = container.format.name
        # Of a variable rate, headers tell anything. A GIF counts in hundredths.
        exact = rate if name != "gif" and rate and mean and abs(mean / float(rate) - 1) < UNLIKE else None
        return VideoFacts(
            container=next((known for known in ("mp4", "webm") if known in name.split(",")), name),
            codec=context.name,
            pix_fmt=context.pix_fmt or "",
            width=context.width,
            height=context.height,
            frames=len(packets),
            fps=float(exact) if exact else mean,
            duration_s=duration,
            announced_s=_announced(container, stream),
            variable=_is_variable([pts for pts, _ in packets]),
            matrix=context.colorspace,
            primaries=context.color_primaries,
            transfer=context.color_trc,
            full_range=context.color_range == 2,
            rotation=first.rotation,
        )


def _announced(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    """Seconds that the header gives the pictures. Matroska does so in a tag, or for all streams together."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    alone = len(container.streams) == 1 and container.duration is not None
    return container.duration / av.time_base if alone and container.duration is not None else None


def _is_variable(times: list[int]) -> bool:
    """Whether some frame lasts longer than another, beyond what rounding to the container's clock makes of equal ones."""
    steps = np.diff(np.sort(times))
    return len(steps) > 1 and float(np.ptp(steps)) > max(2.0, UNEQUAL * float(steps.mean()))


def _stream_frames(path: Path) -> Iterator[Frame]:
    with av.open(path) as container:
        stream = _video(container, path)
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            matrix = frame.colorspace
            if matrix == UNTAGGED and not frame.format.is_rgb:
                matrix = Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601
            yield frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray().astype(np.uint8, copy=False)


def _probe_webp(path: Path) -> VideoFacts:
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
        milliseconds = 0
        for index in range(count):
            image.seek(index)
            image.load()
            milliseconds += int(image.info.get("duration", 0))
        seconds = milliseconds / 1000
        return _picture_facts("webp", "webp", image, count, count / seconds if seconds else None, seconds)


def _webp_frames(path: Path) -> Iterator[Frame]:
    with Image.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            yield np.asarray(image.convert("RGB"))


def _pictures(folder: Path) -> list[Path]:
    """The frames of a folder, which must be numbered without a gap."""
    names = {entry.name for entry in folder.iterdir() if entry.name.startswith("frame-") and entry.suffix == ".png"}
    wanted = [frame_name(index) for index in range(len(names))]
    missing = [name for name in wanted if name not in names]
    if missing or not wanted:
        given = f"{folder} without {missing[0] if missing else frame_name(0)}"
        allowed = "a folder of PNG frames numbered from 0 without a gap"
        raise InvalidRequest("video", given, allowed, "Name a file, or a folder that --container png made.")
    return [folder / name for name in wanted]


def _probe_pictures(folder: Path) -> VideoFacts:
    pictures = _pictures(folder)
    with _readable(pictures[0]), Image.open(pictures[0]) as image:
        return _picture_facts("png", "png", image, len(pictures), None, None)


def _picture_facts(
    container: str, codec: str, image: Image.Image, count: int, fps: float | None, seconds: float | None
) -> VideoFacts:
    return VideoFacts(
        container=container,
        codec=codec,
        pix_fmt=image.mode.lower(),
        width=image.width,
        height=image.height,
        frames=count,
        fps=fps,
        duration_s=seconds,
        matrix=0,
        primaries=UNTAGGED,
        transfer=UNTAGGED,
        full_range=True,
        rotation=0,
    )
