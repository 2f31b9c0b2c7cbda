"""One row of the model catalog as the plan sees it: numbers, names and places, no weights. A leaf without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PARTS = ("transformer", "transformer_2", "text_encoder", "vae")
"""The parts of a checkpoint that have weights, by diffusers' names. A merged checkpoint has no `transformer_2`."""


class Weights(BaseModel):
    """Names of a model's weights by role; empty where there is none. What a name means is its owner's: a row of the
    catalog, a file in ComfyUI's folders.

    Either `high` and `low`, or `merged`, with `text_encoder` and `vae`; or `checkpoint` alone, which holds everything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    high: str = ""
    low: str = ""
    merged: str = ""
    checkpoint: str = ""
    text_encoder: str = ""
    vae: str = ""

    def named(self) -> dict[str, str]:
        """Every name that there is, by role."""
        return {role: name for role in Weights.model_fields if (name := getattr(self, role))}


class ModelFiles(BaseModel):
    """Where each part of a checkpoint lies: a file, or a folder of shards. Several parts may be in one file.

    `transformer` is the high-noise expert or the merged one, `transformer_2` the low-noise expert. `tokenizer` is a
    folder, None when the text encoder's file carries it. `configs` is a folder in diffusers layout whose
    `<part>/config.json` describe the parts, None when shapes tell enough.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transformer: Path
    transformer_2: Path | None = None
    text_encoder: Path
    vae: Path
    tokenizer: Path | None = None
    configs: Path | None = None

    @classmethod
    def in_folder(cls, folder: Path, *, merged: bool = False) -> ModelFiles:
        """The places in a folder in diffusers layout."""
        return cls(
            transformer=folder / "transformer",
            transformer_2=None if merged else folder / "transformer_2",
            text_encoder=folder / "text_encoder",
            vae=folder / "vae",
            tokenizer=folder / "tokenizer",
            configs=folder,
        )

    def parts(self) -> dict[str, Path]:
        """The place of every part that there is."""
        places = {part: getattr(self, part) for part in PARTS}
        return {part: place for part, place in places.items() if place is not None}

    def config_file(self, part: str) -> Path | None:
        """The part's `config.json`: beside its weights when those are a folder, else in `configs`; None without."""
        own = self.parts()[part] / "config.json"
        if own.is_file() or self.configs is None:
            return own if own.is_file() else None
        return self.configs / part / "config.json"


@dataclass(frozen=True)
class ModelRow:
    """One checkpoint. Byte counts are of the files; dimensions are those of its config files or shapes.

    `files` None means that they are not all here: such a row can be planned and not run. `boundary_ratio` None means one
    merged expert. `sizes` are the (width, height) offered when the user names none, from large to small.
    `vae_levels` are its channels at each size over `vae_base_dim`, from the full size down; `vae_temporal` tells which step
    between two sizes halves time too, `vae_blocks` how many residual blocks each has: Wan 2.1's if nothing else is said.
    `packed_bytes` is what an expert's weights take as stored when that is fp8 or GGUF, 0 when they are floats;
    `lora_bytes` what a job's LoRAs add to an expert. `always_float32`: this model needs more digits than half precision has.
    """

    name: str
    files: ModelFiles | None
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
    packed_bytes: int = 0
    lora_bytes: int = 0
    vae_levels: tuple[int, ...] = (1, 2, 4, 4)
    vae_temporal: tuple[bool, ...] = (False, True, True)
    vae_blocks: int = 2
    always_float32: bool = False

    @property
    def path(self) -> Path | None:
        """The checkpoint's folder, or the file of its first expert; None when it is not here."""
        if self.files is None:
            return None
        folder = self.files.configs
        return folder if folder and folder in self.files.transformer.parents else self.files.transformer

    @property
    def experts(self) -> tuple[str, ...]:
        return ("single",) if self.boundary_ratio is None else ("high", "low")
