"""Faces in pictures: where they are, and 468 points on each. Imported by the rest of the eye.

Two nets of MediaPipe run in OpenCV: BlazeFace ("back", 256 px) proposes faces, the face mesh (192 px) places the points
and says with a presence score whether there is a face at all. Pictures are height × width × 3, RGB, uint8.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.errors import CheckpointError

Picture = npt.NDArray[np.uint8]
"""height × width × 3, RGB, 0 to 255."""
Floats = npt.NDArray[np.float32]

NETS = {
    "face_detection_back.tflite": "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}

DETECTOR_SIZE = 256
MESH_SIZE = 192
PROPOSAL = 0.5
"""Score from which a detection is a proposal; the mesh decides."""
PRESENCE = 0.9
"""Mesh score from which a proposal is a face: it removed every false box of the detector on composed 720p pictures."""
TRACKED_PRESENCE = 0.5
"""Mesh score down to which a face that was there in the last frame is still there."""
OVERLAP = 0.3
"""Boxes of which this much (intersection over union) coincides are one face."""
ROI_SCALE = 1.5
"""Side of the mesh's input square over the longer side of the face's box (MediaPipe `face_landmark`)."""

FOREHEAD, CHIN, EYE_OUTER_A, EYE_OUTER_B = 10, 152, 33, 263
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_UPPER, INNER_LOWER = 13, 14


@dataclass(frozen=True)
class Face:
    """One face. `points`: 468 × 2, x and y in pixels of the picture; `presence` in [0, 1]."""

    points: Floats
    presence: float

    @property
    def height(self) -> float:
        """Pixels from the top of the forehead to the chin."""
        return float(np.hypot(*(self.points[FOREHEAD] - self.points[CHIN])))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom of the points, pixels."""
        (left, top), (right, bottom) = self.points.min(axis=0), self.points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    @property
    def roll(self) -> float:
        """Radians by which the line through the eyes is turned clockwise."""
        return _angle(self.points[EYE_OUTER_A], self.points[EYE_OUTER_B])

    @property
    def yaw(self) -> float:
        """How far the nose tip is off the middle between the cheeks, −1 to 1; ±0.35 is about 30 degrees."""
        nose, left, right = self.points[1], self.points[234], self.points[454]
        axis = right - left
        return float(2 * np.dot(nose - left, axis) / max(float(np.dot(axis, axis)), 1e-6) - 1)

    @property
    def mouth_gap(self) -> float:
        """Distance of the inner lips in shares of the face's height; a closed mouth has about 0."""
        gap = np.hypot(*(self.points[INNER_UPPER] - self.points[INNER_LOWER]))
        return float(gap / max(self.height, 1e-6))


def find_faces(picture: Picture, *, thorough: bool = True) -> tuple[Face, ...]:
    """All faces, the largest first. `thorough` also looks at overlapping tiles, which finds faces of 36 px in 720p."""
    found: list[Face] = []
    for square, _ in _suppressed(_proposals(picture, thorough)):
        face = mesh(picture, square)
        if face.presence >= PRESENCE and not any(overlap(face.box, other.box) > OVERLAP for other in found):
            found.append(face)
    return tuple(sorted(found, key=lambda face: -face.height))


def follow(picture: Picture, face: Face) -> Face | None:
    """The same face one frame later, or None when it is no longer there."""
    moved = mesh(picture, square_of(face))
    return moved if moved.presence >= TRACKED_PRESENCE and moved.height > 4 else None


@dataclass(frozen=True)
class Square:
    """A turned square in a picture: centre and side in pixels, `turn` in radians clockwise."""

    x: float
    y: float
    side: float
    turn: float

    def to_input(self) -> npt.NDArray[np.float64]:
        """2 × 3 matrix from the picture to the mesh's input."""
        scale = MESH_SIZE / self.side
        cos, sin = scale * math.cos(self.turn), scale * math.sin(self.turn)
        half = MESH_SIZE / 2
        return np.array(
            [[cos, sin, half - cos * self.x - sin * self.y], [-sin, cos, half + sin * self.x - cos * self.y]]
        )


def square_of(face: Face) -> Square:
    """The mesh's next input for a face that was seen: its box along the line of the eyes, enlarged."""
    turn = face.roll
    cos, sin = math.cos(turn), math.sin(turn)
    along = face.points @ np.array([[cos, -sin], [sin, cos]], dtype=np.float32)
    low, high = along.min(axis=0), along.max(axis=0)
    x, y = (low + high) / 2
    return Square(float(cos * x - sin * y), float(sin * x + cos * y), ROI_SCALE * float((high - low).max()), turn)


def mesh(picture: Picture, square: Square) -> Face:
    """Run the face mesh on a square of the picture."""
    matrix = square.to_input()
    patch = cv2.warpAffine(picture, matrix, (MESH_SIZE, MESH_SIZE), flags=cv2.INTER_LINEAR)
    net = _net("face_landmark.tflite")
    net.setInput(cv2.dnn.blobFromImage(patch, 1 / 255))
    outputs = net.forward(net.getUnconnectedOutLayersNames())
    score = next(output for output in outputs if output.size == 1)
    points = next(output for output in outputs if output.size > 1).reshape(468, 3)[:, :2]
    back = cv2.invertAffineTransform(matrix)
    placed = points @ back[:, :2].T + back[:, 2]
    return Face(placed.astype(np.float32), _sigmoid(float(score.ravel()[0])))


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@lru_cache(maxsize=2)
def _net(name: str) -> Any:
    """A net of this package, its bytes checked.

    Raises CheckpointError when the file is not the one that this package was made with.
    """
    content = files("wan2_i2v.eye.nets").joinpath(name).read_bytes()
    if hashlib.sha256(content).hexdigest() != NETS[name]:
        raise CheckpointError(f"{name} in the installed package is damaged; reinstall wan2-i2v.")
    buffer = np.frombuffer(content, dtype=np.uint8)
    read: Any = cv2.dnn.readNetFromTFLite
    classic = getattr(cv2.dnn, "ENGINE_CLASSIC", None)
    return read(buffer) if classic is None else read(buffer, classic)


@lru_cache(maxsize=1)
def _anchors() -> Floats:
    """896 × 2 centres in [0, 1]: two per cell of 16 × 16, six per cell of 8 × 8 (MediaPipe `SsdAnchorsCalculator`)."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        y, x = np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij")
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        grids.append(np.repeat(centres, repeats, axis=0))
    return np.concatenate(grids).astype(np.float32)


def _proposals(picture: Picture, thorough: bool) -> list[tuple[Square, float]]:
    height, width = picture.shape[:2]
    side = max(height, width)
    found = _detect(picture, 0, 0)
    if thorough and side > DETECTOR_SIZE:
        tile = max(DETECTOR_SIZE, side // 2)
        for top in _starts(height, tile):
            for left in _starts(width, tile):
                found += _detect(picture[top : top + tile, left : left + tile], left, top)
    return found


def _starts(length: int, tile: int) -> list[int]:
    """Starts of half-overlapping tiles that cover `length` pixels."""
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / (tile / 2)) + 1
    return [round(value) for value in np.linspace(0, length - tile, count)]


def _detect(picture: Picture, left: int, top: int) -> list[tuple[Square, float]]:
    """Proposals in one picture or tile whose corner lies at (left, top) of the whole."""
    height, width = picture.shape[:2]
    side = max(height, width)
    scaled = cv2.resize(
        picture,
        (max(1, round(width * DETECTOR_SIZE / side)), max(1, round(height * DETECTOR_SIZE / side))),
        interpolation=cv2.INTER_AREA if side > DETECTOR_SIZE else cv2.INTER_LINEAR,
    )
    square = np.zeros((DETECTOR_SIZE, DETECTOR_SIZE, 3), dtype=np.uint8)
    square[: scaled.shape[0], : scaled.shape[1]] = scaled
    net = _net("face_detection_back.tflite")
    net.setInput(cv2.dnn.blobFromImage(square, 1 / 127.5, mean=(127.5, 127.5, 127.5)))
    scores, boxes = net.forward(("classificators", "regressors"))
    likely = np.flatnonzero(scores.ravel() > math.log(PROPOSAL / (1 - PROPOSAL)))
    return [
        (_square(boxes.reshape(-1, 16)[i], _anchors()[i], side, left, top), _sigmoid(float(scores.ravel()[i])))
        for i in likely
    ]


def _square(raw: Floats, anchor: Floats, side: int, left: int, top: int) -> Square:
    """Decode one detection: box centre and size, then six points of which the first two are the eyes; input pixels."""
    scale = side / DETECTOR_SIZE
    x, y = raw[:2] + anchor * DETECTOR_SIZE
    turn = _angle(raw[4:6], raw[6:8])
    return Square(float(x) * scale + left, float(y) * scale + top, ROI_SCALE * float(max(raw[2:4])) * scale, turn)


def _suppressed(proposals: list[tuple[Square, float]]) -> list[tuple[Square, float]]:
    """The best proposal of each place, best first."""
    kept: list[tuple[Square, float]] = []
    for square, score in sorted(proposals, key=lambda proposal: -proposal[1]):
        if not any(overlap(_bounds(square), _bounds(other)) > OVERLAP for other, _ in kept):
            kept.append((square, score))
    return kept


def _bounds(square: Square) -> tuple[float, float, float, float]:
    half = square.side / 2
    return square.x - half, square.y - half, square.x + half, square.y + half


def _angle(a: Floats, b: Floats) -> float:
    return math.atan2(float(b[1] - a[1]), float(b[0] - a[0]))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
