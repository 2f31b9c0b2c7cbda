"""Sigma schedules with ComfyUI's meaning of each name, and the expert of every step. A leaf: NumPy and SciPy, no torch.

Flow matching: x_σ = σ·noise + (1 − σ)·x0 with σ in [0, 1]; the model's timestep is 1000·σ.
Sources: ComfyUI `comfy/samplers.py` (`beta_scheduler`, `simple_scheduler`, `normal_scheduler`) and
`comfy/model_sampling.py` (`ModelSamplingDiscreteFlow`); Wan2.2 `wan/utils/fm_solvers_unipc.py` for `linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Expert = Literal["high", "low", "single"]
Floats = npt.NDArray[np.float64]

TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class Pass:
    """One load of an expert and the steps that it takes: with the job's LoRAs, or `plain`, without them."""

    expert: Expert
    plain: bool = False

    @property
    def stage(self) -> str:
        """The name of the stage that runs it."""
        return f"denoise {self.expert}{' plain' if self.plain else ''}"


PASSES = (Pass("single", plain=True), Pass("single"), Pass("high", plain=True), Pass("high"), Pass("low"))
"""Every pass that a job can have, in order; none has all."""


def shifted(t: Floats, flow_shift: float) -> Floats:
    """ComfyUI's flow shift, σ = s·t / (1 + (s − 1)·t), for t in [0, 1]; written so that rounding never exceeds 1."""
    return flow_shift * t / (flow_shift * t + (1 - t))


def _table(flow_shift: float) -> Floats:
    """The 1000 sigmas that ComfyUI's discrete schedules pick from, ascending: t = (i + 1) / 1000."""
    return shifted(np.arange(1, TRAIN_TIMESTEPS + 1) / TRAIN_TIMESTEPS, flow_shift)


def _beta(steps: int, flow_shift: float) -> Floats:
    """Entries at the quantiles of Beta(0.6, 0.6), repeats dropped (arXiv 2407.12173)."""
    from scipy.special import betaincinv  # here, since it takes longer to import than the rest of the package

    quantiles = 1 - np.linspace(0, 1, steps, endpoint=False)
    index = np.rint(betaincinv(0.6, 0.6, quantiles) * (TRAIN_TIMESTEPS - 1)).astype(int)
    keep = np.r_[True, index[1:] != index[:-1]]
    return np.asarray(_table(flow_shift)[index[keep]])


def _simple(steps: int, flow_shift: float) -> Floats:
    """Every (1000 / steps)-th entry from the top."""
    stride = TRAIN_TIMESTEPS / steps
    index = [TRAIN_TIMESTEPS - 1 - int(i * stride) for i in range(steps)]
    return np.asarray(_table(flow_shift)[index])


def _normal(steps: int, flow_shift: float) -> Floats:
    """Evenly spaced timesteps from the largest sigma's to the smallest's, both included."""
    table = _table(flow_shift)
    timesteps = np.linspace(table[-1], table[0], steps)
    return shifted(timesteps, flow_shift)


def _linear(steps: int, flow_shift: float) -> Floats:
    """Wan2.2's own `generate.py`: t evenly spaced from 0.999 to 0 (excluded), then shifted."""
    return shifted(np.linspace(1 - 1 / TRAIN_TIMESTEPS, 0, steps + 1)[:-1], flow_shift)


SCHEDULES: dict[str, Callable[[int, float], Floats]] = {
    "beta": _beta,
    "simple": _simple,
    "normal": _normal,
    "linear": _linear,
}


def sigmas(scheduler: str, flow_shift: float, steps: int) -> tuple[float, ...]:
    """The noise levels of a run, descending from about 1, with the final 0.0: `steps + 1` values, fewer when `beta`
    drops repeats.

    Raises KeyError for an unknown scheduler; the request's validation has named the allowed ones before.
    """
    return (*(float(value) for value in SCHEDULES[scheduler](steps, flow_shift)), 0.0)


def expert_at(sigma: float, boundary_ratio: float | None) -> Expert:
    """Which expert denoises at `sigma`: high noise when 1000·σ ≥ 1000·boundary (Wan2.2 `image2video.py`)."""
    if boundary_ratio is None:
        return "single"
    return "high" if sigma >= boundary_ratio else "low"
