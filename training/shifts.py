"""How the latents of a picture that has moved follow from those of the picture: four linear maps, by least squares.

Goes out: `fit`, for `initial`. Content moved p tokens (16 p pixels) changes a token by about p·S·neighbourhood.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from training import experts
from training.pictures import Pool

SIDE, PICTURES, RIDGE = 128, 40, 2.0
AMOUNTS = (0.25, 0.5, 0.75, 1.0)
MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Right, left, down, up."""


def tokens(latents: torch.Tensor) -> torch.Tensor:
    """(16, n, height, width) → (n, height / 2, width / 2, 64), channel outermost as in `initial`."""
    channels, frames, height, width = latents.shape
    parts = latents.reshape(channels, frames, height // 2, 2, width // 2, 2).permute(1, 2, 4, 0, 3, 5)
    return parts.reshape(frames, height // 2, width // 2, -1)


def fit(coder: Any, pool: Pool) -> torch.Tensor:
    """(4 directions, 64, 5 · 64): maps from a token's left, right, upper and lower neighbours and itself."""
    rng = np.random.default_rng(12)
    size = 5 * 64
    left, right = torch.zeros(4, size, size, dtype=torch.float64), torch.zeros(4, size, 64, dtype=torch.float64)
    for _ in range(PICTURES):
        picture = experts.view(pool, (SIDE, SIDE), rng)
        views = [picture] + [_moved(picture, move, amount) for move in MOVES for amount in AMOUNTS]
        latents = tokens(experts.encode_clip(coder, np.stack(views))).double()
        first, moved = latents[0], latents[1:].unflatten(0, (4, len(AMOUNTS)))
        middle = slice(1, -1)
        around = torch.cat([first[middle, :-2], first[middle, 2:], first[:-2, middle], first[2:, middle],
                            first[middle, middle]], dim=-1).reshape(-1, size)  # fmt: skip
        for direction in range(4):
            for index, amount in enumerate(AMOUNTS):
                change = (moved[direction, index] - first)[middle, middle].reshape(-1, 64)
                left[direction] += amount**2 * around.T @ around
                right[direction] += amount * around.T @ change
    solved = np.linalg.solve(left.numpy() + RIDGE * np.eye(size), right.numpy())
    return torch.from_numpy(solved).transpose(1, 2).float()


def _moved(picture: np.ndarray[Any, Any], move: tuple[int, int], amount: float) -> np.ndarray[Any, Any]:
    matrix = np.array([[1, 0, 16 * amount * move[0]], [0, 1, 16 * amount * move[1]]])
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
