"""Two pictures of a face are brought together by what does not speak, and only by that."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from wan2_i2v.eye.aligning import Aligner
from wan2_i2v.eye.faces import find_faces

SIDE = 256


@pytest.fixture(scope="module")
def crop():
    """A face that fills its crop, the points on it, and the row where its mouth begins."""
    picture = skimage.data.astronaut()
    face = find_faces(picture)[0]
    left, top, right, _ = face.box
    side = 1.6 * (right - left)
    scale = SIDE / side
    matrix = np.array([[scale, 0, -scale * (left - side / 5)], [0, scale, -scale * (top - side / 5)]])
    grey = cv2.cvtColor(cv2.warpAffine(picture, matrix, (SIDE, SIDE)), cv2.COLOR_RGB2GRAY).astype(np.float32)
    points = (face.points * scale + matrix[:, 2]).astype(np.float32)
    return grey, points, int(points[0, 1])


def off(a, b, rows=slice(20, 236)):
    return float(np.abs(a - b)[rows, 20:236].mean())


@pytest.mark.parametrize(("shift", "turn", "scale"), [((9, -7), 0, 1.0), ((0, 0), 4, 1.0), ((3, 5), -2, 1.06)])
def test_a_moved_face_is_laid_back(crop, shift, turn, scale):
    still, points, mouth_top = crop
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), turn, scale) + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
    moved = cv2.warpAffine(still, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    laid = Aligner.of(points, mouth_top, SIDE).laid(still, moved)
    assert laid is not None
    assert off(still, laid) < 0.25 * off(still, moved)


def test_what_changes_from_the_mouth_down_moves_nothing(crop):
    still, points, mouth_top = crop
    opened = still.copy()
    opened[mouth_top + 20 :] = still[mouth_top:-20]
    laid = Aligner.of(points, mouth_top, SIDE).laid(still, opened)
    assert laid is not None
    assert off(opened, laid) < 1.0


def test_where_there_is_nothing_to_hold_on_to_nothing_is_laid(crop):
    _, points, mouth_top = crop
    flat = np.full((SIDE, SIDE), 128, dtype=np.float32)
    assert Aligner.of(points, mouth_top, SIDE).laid(flat, flat) is None
