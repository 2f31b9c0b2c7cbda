"""What each shifting head has to carry: least squares on pictures that have moved along one axis.

Goes out: `fit`, for `initial`. A head sees a token through a bump around its offset; the eight heads' tokens together, each
through its own linear map, are the moved picture. Shifts of up to half a token suffice: whole tokens only change which
token a head sees.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from training import experts, heads
from training.pictures import Pool

SIDE, PICTURES, SHIFTS, RIDGE = 128, 400, 4, 1e-5
STILL_SHARE = 0.25
"""A quarter of the samples has not moved: a still picture has to stay as it is."""


def tokens(latents: torch.Tensor) -> torch.Tensor:
    """(16, n, height, width) → (n, height / 2, width / 2, 64), channel outermost as in `initial`."""
    channels, frames, height, width = latents.shape
    parts = latents.reshape(channels, frames, height // 2, 2, width // 2, 2).permute(1, 2, 4, 0, 3, 5)
    return parts.reshape(frames, height // 2, width // 2, -1)


def seen(first: torch.Tensor, amount: float) -> torch.Tensor:
    """What the heads see of a row of tokens (…, columns, 64) when they look `amount` tokens away: (…, columns, heads · 64)."""
    columns = np.arange(first.shape[-2])
    distance = columns[None, :] - columns[:, None] - amount
    weights = torch.from_numpy(np.stack([heads.bump(distance - offset) for offset in heads.OFFSETS]))
    return torch.einsum("hij,...jc->...ihc", weights, first).flatten(-2)


def fit(coder: Any, pool: Pool) -> torch.Tensor:
    """(2, heads, 64, 64): maps from what a head sees to its share of the picture moved right or left, then down or up."""
    rng = np.random.default_rng(12)
    size = 64 * len(heads.OFFSETS)
    left = torch.zeros(2, size, size, dtype=torch.float64)
    right = torch.zeros(2, size, 64, dtype=torch.float64)
    for _ in range(PICTURES):
        picture = experts.view(pool, (SIDE, SIDE), rng)
        amounts = rng.uniform(-0.5, 0.5, SHIFTS) * (rng.random(SHIFTS) >= STILL_SHARE)
        for index, axis in enumerate(((1, 0), (0, 1))):
            views = [picture] + [_moved(picture, axis, amount) for amount in amounts]
            latents = tokens(experts.encode_clip(coder, np.stack(views))).double()
            if index == 1:
                latents = latents.transpose(1, 2)
            for moved, amount in zip(latents[1:], amounts, strict=True):
                inner = seen(latents[0], amount)[:, 1:-1].reshape(-1, size)
                left[index] += inner.T @ inner
                right[index] += inner.T @ moved[:, 1:-1].reshape(-1, 64)
    ridge = RIDGE * left.diagonal(dim1=1, dim2=2).mean() * torch.eye(size, dtype=torch.float64)
    solved = torch.linalg.solve(left + ridge, right)
    return solved.transpose(1, 2).unflatten(2, (len(heads.OFFSETS), 64)).transpose(1, 2).float()


def _moved(picture: np.ndarray[Any, Any], axis: tuple[int, int], amount: float) -> np.ndarray[Any, Any]:
    """The picture that shows at each place what was `amount` tokens further along `axis` (right, down)."""
    matrix = np.array([[1, 0, -16 * amount * axis[0]], [0, 1, -16 * amount * axis[1]]])
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
