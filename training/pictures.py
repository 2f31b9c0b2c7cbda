"""Training pictures from Debian packages, as image pyramids. Comes in: installed packages; goes out: RGB arrays.

Packages: openclipart-png (CC0); gnome-backgrounds, mate-backgrounds, plasma-workspace-wallpapers (CC BY-SA). The sample
pictures of scikit-image and scikit-learn are for evaluation and never read here.
"""

from __future__ import annotations

import pickle
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

PHOTOS = ("gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers")
DRAWINGS = "openclipart-png"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
PHOTO_SIDE, DRAWING_SIDE, LEAST_SIDE = 1400, 420, 160
DRAWING_COUNT = 1500
LEVELS = 4
PHOTO_SHARE = 0.65

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pool:
    """Pyramids of photographs and drawings; level k is shrunk by √2 to the power k, height × width × 3 RGB."""

    photos: list[list[Picture]]
    drawings: list[list[Picture]]

    def choose(self, rng: np.random.Generator) -> list[Picture]:
        pool = self.photos if rng.random() < PHOTO_SHARE else self.drawings
        return pool[rng.integers(len(pool))]


def package_files(package: str) -> list[Path]:
    """Picture files of an installed Debian package, in the package's order, links and duplicates left out."""
    listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True).stdout
    paths = [Path(line) for line in listing.splitlines()]
    return [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink()]


def read(path: Path, side: int, rng: np.random.Generator) -> Picture | None:
    """A picture as RGB, at most `side` pixels long, transparency on white or a random colour; None when unreadable."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return None
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.shape[2] == 4:
        colour = rng.integers(0, 256, 3) if rng.random() < 0.6 else np.array([255, 255, 255])
        alpha = pixels[..., 3:] / 255.0
        pixels = (pixels[..., :3] * alpha + colour * (1 - alpha)).astype(np.uint8)
    scale = side / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels[..., ::-1])


def pyramid(picture: Picture) -> list[Picture]:
    levels = [picture]
    for level in range(1, LEVELS):
        scale = 2 ** (-level / 2)
        if min(picture.shape[:2]) * scale < LEAST_SIDE / 2:
            break
        levels.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return levels


def load_pool(cache: Path) -> Pool:
    """The training pool, made on the first call and kept in `cache` (a pickle that this function wrote itself)."""
    if cache.exists():
        return Pool(*pickle.loads(cache.read_bytes()))
    rng = np.random.default_rng(0)
    photo_files = [path for package in PHOTOS for path in package_files(package)]
    drawing_files = package_files(DRAWINGS)
    chosen = rng.permutation(len(drawing_files))[:DRAWING_COUNT]
    photos = _pyramids(photo_files, PHOTO_SIDE, rng)
    drawings = _pyramids([drawing_files[i] for i in chosen], DRAWING_SIDE, rng)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(pickle.dumps((photos, drawings)))
    return Pool(photos, drawings)


def _pyramids(files: list[Path], side: int, rng: np.random.Generator) -> list[list[Picture]]:
    pictures = (read(path, side, rng) for path in files)
    return [pyramid(picture) for picture in pictures if picture is not None and min(picture.shape[:2]) >= LEAST_SIDE]
