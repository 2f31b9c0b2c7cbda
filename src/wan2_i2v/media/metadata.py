"""The record inside a clip's own file: written by the finish stage, read by `inspect`. A leaf without torch.

One JSON object, ASCII only, under the key `wan2_i2v`: the comment tag of mp4 and webm, the comment block of a GIF, the
EXIF image description of a WebP, a text chunk of the first PNG frame. Pixels are never encoded anew.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any, BinaryIO

import av
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from wan2_i2v.errors import InvalidRequest, OutputError
from wan2_i2v.media.formats import frame_name
from wan2_i2v.request import Container
from wan2_i2v.workspace import replacing, replacing_folder

KEY = "wan2_i2v"
EXIF_DESCRIPTION = 0x010E
REMUX = {
    "mp4": {"movflags": "+faststart", "fflags": "+bitexact"},
    "webm": {"fflags": "+bitexact"},
}


def embed(source: Path, target: Path, container: Container, metadata: dict[str, Any], overwrite: bool) -> None:
    """Copy the clip `source` to `target` with `metadata` inside. Atomic; equal inputs give equal bytes.

    A `target` that carries equal metadata already is left as it is. A folder of PNG frames is only ever replaced when
    nothing but frames is in it.

    Raises OutputError when `target` is there and may not be replaced.
    """
    if target.exists() and _carries(target, metadata):
        return
    text = json.dumps({KEY: metadata}, sort_keys=True, separators=(",", ":"))
    try:
        if container == "png":
            _refuse_foreign(target)
            with replacing_folder(target, overwrite=overwrite) as folder:
                _embed_png(source, folder, text)
        else:
            with replacing(target, overwrite=overwrite) as temporary:
                _embed_file(source, temporary, container, text)
    except FileExistsError:
        raise OutputError(taken(target)) from None


def read(path: Path) -> dict[str, Any]:
    """The metadata that `embed` put into a clip (a file, or a folder of PNG frames).

    Raises InvalidRequest for a path that is no clip or carries no record.
    """
    try:
        text = _read_text(path)
        content = json.loads(text)[KEY] if text else None
    except (ValueError, KeyError, TypeError):
        content = None
    if not isinstance(content, dict):
        hint = "The file carries no record. Any video can be looked at with: wan2-i2v verify FILE."
        raise InvalidRequest("video", str(path), "a clip that this program made", hint)
    return content


def taken(target: Path) -> str:
    """The sentence for a target that exists."""
    return f"{target} exists. Say --overwrite to replace it, or choose another --output."


def _carries(target: Path, metadata: dict[str, Any]) -> bool:
    try:
        return read(target) == metadata
    except InvalidRequest:
        return False


def _embed_file(source: Path, target: Path, container: Container, text: str) -> None:
    if container in REMUX:
        _remux(source, target, container, text)
        return
    with source.open("rb") as given, target.open("wb") as output:
        (_embed_gif if container == "gif" else _embed_webp)(given, output, text)


def _remux(source: Path, target: Path, container: str, text: str) -> None:
    with av.open(source) as given, av.open(target, "w", format=container, options=REMUX[container]) as output:
        track = given.streams.video[0]
        copy = output.add_stream_from_template(track)
        if track.average_rate is not None:
            copy.codec_context.framerate = track.average_rate
        output.metadata["comment"] = text
        for packet in given.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)


def _embed_gif(given: BinaryIO, output: BinaryIO, text: str) -> None:
    """The comment goes before the first frame: after the header and, where there is one, the global palette."""
    header = given.read(13)
    palette = given.read(3 * 2 ** ((header[10] & 7) + 1)) if header[10] & 0x80 else b""
    output.write(header + palette + b"\x21\xfe")
    data = text.encode("ascii")
    for start in range(0, len(data), 255):
        part = data[start : start + 255]
        output.write(bytes([len(part)]) + part)
    output.write(b"\x00")
    shutil.copyfileobj(given, output)


def _embed_webp(given: BinaryIO, output: BinaryIO, text: str) -> None:
    """An EXIF chunk at the end of the RIFF file, announced in the flags of its VP8X chunk.

    A clip of one frame has no VP8X chunk (WebP Container Specification, "Extended File Format") and gets one.
    """
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = text
    payload = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = b"EXIF" + struct.pack("<I", len(payload)) + payload + b"\x00" * (len(payload) % 2)
    riff, extended = given.read(12), given.read(18)
    frames = b""
    if extended[:4] != b"VP8X":
        given.seek(0)
        with Image.open(given) as picture:
            frames, extended = extended, _vp8x(*picture.size)
    size = 4 + given.seek(0, os.SEEK_END) - 30 + len(extended) + len(frames) + len(chunk)
    given.seek(30)
    output.write(b"RIFF" + struct.pack("<I", size) + riff[8:])
    output.write(extended[:8] + bytes([extended[8] | 0x08]) + extended[9:] + frames)
    shutil.copyfileobj(given, output)
    output.write(chunk)


def _vp8x(width: int, height: int) -> bytes:
    """The extended header of a still without alpha: flags, three reserved bytes, both sides less one in 24 bits."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"VP8X" + struct.pack("<I", 10) + bytes(4) + sides


def _embed_png(source: Path, target: Path, text: str) -> None:
    """The first frame is written again with the text, the others are linked, or copied where links are unknown."""
    first, *others = sorted(source.iterdir())
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, text)
    with Image.open(first) as picture:
        picture.save(target / first.name, pnginfo=info)
    for frame in others:
        try:
            os.link(frame, target / frame.name)
        except OSError:
            shutil.copyfile(frame, target / frame.name)


def _refuse_foreign(folder: Path) -> None:
    """Raise OutputError for a folder that holds anything else than PNG frames."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(taken(folder))
    names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    if names != [frame_name(index) for index in range(len(names))]:
        raise OutputError(f"{folder} holds other files than PNG frames and is not replaced; choose another --output.")


def _read_text(path: Path) -> str:
    if not path.exists():
        raise InvalidRequest("video", str(path), "a file that exists", "Check the name.")
    file = path / frame_name(0) if path.is_dir() else path
    if not file.is_file():
        raise InvalidRequest(
            "video", str(path), f"a video file, or a folder of PNG frames that begins with {file.name}"
        )
    try:
        with Image.open(file) as picture:
            return _picture_text(picture)
    except UnidentifiedImageError:
        return _container_comment(file)


def _picture_text(picture: Image.Image) -> str:
    if picture.format == "WEBP":
        return str(picture.getexif().get(EXIF_DESCRIPTION, ""))
    comment = picture.info.get("comment", b"")
    return str(picture.info.get(KEY, "")) or (comment.decode("ascii", "replace") if isinstance(comment, bytes) else "")


def _container_comment(file: Path) -> str:
    try:
        with av.open(file) as container:
            return container.metadata.get("comment") or container.metadata.get("COMMENT", "")
    except av.FFmpegError as error:
        hint = f"The file cannot be read: {error.strerror}."
        raise InvalidRequest("video", str(file), "a whole video file", hint) from error
