"""Synthetic frames for tests: coloured textures that move, stand still or misbehave. RGB, uint8."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.reader import Frame

WIDTH, HEIGHT = 96, 64
CONTAINERS = ("mp4", "webm", "gif", "webp", "png")
TIMED = CONTAINERS[:4]


def texture(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Frame:
    """A smooth picture with soft blobs of all colours, mean about 128."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(128 + soft * (45 / soft.std()), 0, 255).astype(np.uint8)


def moving(count: int, width: int = WIDTH, height: int = HEIGHT, seed: int = 0, speed: int = 1) -> Iterator[Frame]:
    """A window that slides over a texture by `speed` pixels per frame."""
    wide = texture(width + speed * count, height, seed)
    for index in range(count):
        yield wide[:, index * speed : index * speed + width].copy()


def patches(width: int = WIDTH, height: int = HEIGHT) -> Frame:
    """Four flat quarters: red, blue, green, brown."""
    frame = np.empty((height, width, 3), np.uint8)
    half, middle = height // 2, width // 2
    frame[:half, :middle], frame[:half, middle:] = (255, 0, 0), (0, 0, 255)
    frame[half:, :middle], frame[half:, middle:] = (0, 255, 0), (200, 150, 100)
    return frame


def form(container: str, fps: float = 24, crf: int = 18) -> ClipFormat:
    return ClipFormat(container, WIDTH, HEIGHT, fps, crf)


def encode(
    path: Path,
    frames: Iterable[Frame],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """A video as other programs make it, by means of FFmpeg alone: 16 fps, or frames at `times` in sixteenths of a second."""
    with av.open(path, "w", options=muxing or {}) as output:
        stream = output.add_stream(codec, rate=16, options=options or {})
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if index == 0:
                stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, pixels
            picture.pts = index if times is None else times[index]
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode() * path.is_dir() + file.read_bytes())
    return whole.hexdigest()
