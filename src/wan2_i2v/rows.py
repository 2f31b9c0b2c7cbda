"""One row of the model catalog as the plan sees it: numbers and names, no weights. A leaf without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelRow:
    """One checkpoint. Byte counts are of the files; dimensions are those of its config files.

    `boundary_ratio` None means one merged expert. `sizes` are the (width, height) offered when the user names none,
    from large to small.
    """

    name: str
    path: Path
    fingerprint: str
    boundary_ratio: float | None
    default_recipe: str
    sizes: tuple[tuple[int, int], ...]
    trained_fps: int
    trained_frames: int
    expert_parameters: int
    text_parameters: int
    vae_parameters: int
    dim: int
    ffn_dim: int
    num_layers: int
    text_dim: int
    vae_base_dim: int
    vae_patch: int

    @property
    def experts(self) -> tuple[str, ...]:
        return ("single",) if self.boundary_ratio is None else ("high", "low")
