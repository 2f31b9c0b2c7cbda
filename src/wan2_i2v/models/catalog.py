"""Which checkpoints exist: name or folder → `ModelRow`. Reads config files and headers of weight files; no torch.

Imported by doors and the pipeline's entry.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from wan2_i2v import geometry
from wan2_i2v.errors import CheckpointError, nearest
from wan2_i2v.models.formats.headers import read_header
from wan2_i2v.rows import ModelRow

MINI = Path(__file__).parent / "mini"
MINI_SIZES = ((256, 256), (288, 192), (192, 288), (320, 176), (176, 320))
BUILTIN = {"mini": MINI}

CONFIGS = {
    "transformer": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
}


def find(name: str) -> ModelRow:
    """The row of a catalog name, or of a folder in diffusers layout, complete and undamaged.

    Raises CheckpointError when nothing of that name exists, or naming the file that is missing or damaged.
    """
    folder = BUILTIN.get(name) or Path(name).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f"model {name!r} is neither in the catalog nor a folder{_hint(name)} "
            "Give a catalog name or the folder of a checkpoint in diffusers layout."
        )
    return _read_folder(name if name in BUILTIN else folder.name, folder.resolve())


def _hint(name: str) -> str:
    """The nearest catalog name; for a catalog name itself, that its folder is gone."""
    if name in BUILTIN:
        return f": {BUILTIN[name]} is missing. Install the package again."
    return f". {nearest(name, BUILTIN)}"


def _read_folder(name: str, folder: Path) -> ModelRow:
    index = _json(folder / "model_index.json")
    boundary = index.get("boundary_ratio")
    parts = ["transformer", "vae", "text_encoder"] + (["transformer_2"] if boundary is not None else [])
    config = {part: _json(folder / part / CONFIGS.get(part, "config.json")) for part in (*parts, "tokenizer")}
    headers = {part: read_header(folder / part) for part in parts}
    expert = config["transformer"]
    _check_architecture(folder, expert)
    embedded = folder == MINI.resolve()
    return ModelRow(
        name=name,
        path=folder,
        fingerprint=_fingerprint([file for part in parts for file in headers[part].files]),
        boundary_ratio=boundary,
        default_recipe="rapid",
        sizes=MINI_SIZES if embedded else geometry.WAN_SIZES,
        trained_fps=24 if embedded else 16,
        trained_frames=121 if embedded else 81,
        expert_parameters=headers["transformer"].parameters,
        text_parameters=headers["text_encoder"].parameters,
        vae_parameters=headers["vae"].parameters,
        dim=expert["num_attention_heads"] * expert["attention_head_dim"],
        ffn_dim=expert["ffn_dim"],
        num_layers=expert["num_layers"],
        text_dim=expert["text_dim"],
        vae_base_dim=config["vae"]["base_dim"],
        vae_patch=config["vae"].get("patch_size") or 1,
    )


def _check_architecture(folder: Path, expert: dict[str, Any]) -> None:
    """Refuse other Wan models by their configuration."""
    if expert.get("in_channels") != 36 or expert.get("image_dim") is not None:
        raise CheckpointError(
            f"{folder} is not a Wan2.2 I2V A14B checkpoint: its transformer takes {expert.get('in_channels')} input channels"
            f"{' and a CLIP image' if expert.get('image_dim') else ''}; I2V A14B takes 36 and no CLIP image."
        )


def _fingerprint(files: list[Path]) -> str:
    """A SHA-256 over the content of small files, over header and length of large ones."""
    return _fingerprint_of(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=16)
def _fingerprint_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, size, _ in files:
        digest.update(f"{file.parent.name}/{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(64 * 2**20))
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: {path.parent} is no complete checkpoint.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from None
