"""The numbers of a checkpoint whose files are here: places of its parts → `ModelRow`. Reads configs and headers; no torch.

Every part is recognised by its content; what is missing, damaged, of another model or given twice is named. Imported by
the catalog.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wan2_i2v import geometry
from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats import fitting
from wan2_i2v.models.formats.configs import transformer_config, transformer_shapes
from wan2_i2v.models.formats.encodings import PACKED_TYPES
from wan2_i2v.models.formats.headers import Header, read_header
from wan2_i2v.models.formats.identify import Identity, check_pair, expect, identify_header
from wan2_i2v.models.formats.naming import entries_of
from wan2_i2v.rows import ModelFiles, ModelRow

MINI = Path(__file__).parent / "mini"
MINI_SIZES = ((256, 256), (288, 192), (192, 288), (320, 176), (176, 320))

MINI_ARCHITECTURE = ("num_attention_heads", "attention_head_dim", "ffn_dim", "num_layers", "text_dim")

Stamp = tuple[tuple[Path, int, int], ...]
"""Files with their sizes and times: what a cached reading of them is valid for."""

_HEAD = 64 * 2**20


@dataclass(frozen=True)
class Defaults:
    """What no file says: how a checkpoint is sampled. `boundary_ratio` None for one merged expert."""

    boundary_ratio: float | None
    recipe: str


def read(name: str, files: ModelFiles, defaults: Defaults) -> ModelRow:
    """The row of a checkpoint, complete and undamaged.

    Raises CheckpointError naming the file that is missing, damaged or something else, and what to do.
    """
    headers = {part: _header(path) for part, path in files.parts().items()}
    identities = {part: expect(header, _kind(part)) for part, header in headers.items()}
    config = {part: _config(files, part) or dict(identities[part].configs[_kind(part)]) for part in headers}
    for part in ("transformer", "transformer_2"):
        if part in config:
            _check_architecture(files.parts()[part], config[part])
    _check_tokenizer(files, identities["text_encoder"])
    if files.transformer_2 is not None:
        check_pair(files.transformer, files.transformer_2)
    for part in headers:
        if _is_expert(part):
            _check_whole(headers[part], identities[part], config[part])
    expert, embedded = config["transformer"], _is_mini(config["transformer"])
    return ModelRow(
        name=name,
        files=files,
        fingerprint=fingerprint(file for part in headers.values() for file in part.files),
        boundary_ratio=defaults.boundary_ratio,
        default_recipe=defaults.recipe,
        sizes=MINI_SIZES if embedded else geometry.WAN_SIZES,
        trained_fps=24 if embedded else 16,
        trained_frames=121 if embedded else 81,
        # Its attention heads tell thousandths of a token apart.
        always_float32=embedded,
        expert_parameters=identities["transformer"].weights["transformer"],
        text_parameters=identities["text_encoder"].weights["text_encoder"],
        vae_parameters=identities["vae"].weights["vae"],
        dim=expert["num_attention_heads"] * expert["attention_head_dim"],
        ffn_dim=expert["ffn_dim"],
        num_layers=expert["num_layers"],
        text_dim=expert["text_dim"],
        vae_base_dim=config["vae"]["base_dim"],
        vae_patch=config["vae"].get("patch_size") or 1,
        **_vae_levels(config["vae"]),
        packed_bytes=max(_packed_bytes(headers[part], identities[part]) for part in headers if _is_expert(part)),
    )


def _is_mini(expert: Mapping[str, Any]) -> bool:
    """Whether an expert has the embedded model's architecture: a copy of it, or one that was trained anew, is used alike."""
    mini = _json(MINI / "transformer" / "config.json")
    return all(expert[key] == mini[key] for key in MINI_ARCHITECTURE)


def read_folder(name: str, folder: Path, defaults: Defaults | None = None) -> ModelRow:
    """The row of a folder in diffusers layout, whose own index has the boundary. Raises CheckpointError as `read`."""
    boundary = _json(folder / "model_index.json").get("boundary_ratio")
    files = ModelFiles.in_folder(folder, merged=boundary is None)
    for part in files.parts():
        _json(folder / part / "config.json")
    _json(folder / "tokenizer" / "tokenizer_config.json")
    return read(name, files, Defaults(boundary, defaults.recipe if defaults else "rapid"))


def _check_tokenizer(files: ModelFiles, text: Identity) -> None:
    """Raise CheckpointError when no tokenizer is at hand."""
    place = files.tokenizer
    if place is None and not text.tokenizer:
        raise CheckpointError(
            f"{text.path} carries no tokenizer. Use ComfyUI's umt5_xxl_fp8_e4m3fn_scaled.safetensors, which does, or name "
            "the tokenizer folder of Wan-AI/Wan2.2-I2V-A14B-Diffusers (or a file that carries one) as tokenizer in "
            "models.toml."
        )
    if place is not None and not _gives_tokenizer(place):
        raise CheckpointError(
            f"{place} gives no tokenizer: that is a folder with tokenizer.json and tokenizer_config.json, or a file that carries "
            "one, as umt5_xxl_fp8_e4m3fn_scaled.safetensors does. Restore the checkpoint, or correct models.toml."
        )


def _gives_tokenizer(place: Path) -> bool:
    if place.is_dir():
        return any((place / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return identify_header(_header(place)).tokenizer


def fingerprint(files: Iterable[Path]) -> str:
    """A SHA-256 over the content of small files, over length and the first 64 MiB of large ones; names do not count."""
    return _fingerprint_of(stamp(dict.fromkeys(files)))


def stamp(files: Iterable[Path]) -> Stamp:
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=16)
def _fingerprint_of(files: Stamp) -> str:
    digest = hashlib.sha256()
    for file, size, _ in files:
        digest.update(f"{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_HEAD))
    return digest.hexdigest()


def _header(path: Path) -> Header:
    """The header of a file or folder, read once as long as nothing changes."""
    inside = sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
    return _header_of(path, stamp(file for file in inside if file.is_file()))


@lru_cache(maxsize=32)
def _header_of(path: Path, files: Stamp) -> Header:
    return read_header(path)


def _kind(part: str) -> str:
    return "transformer" if _is_expert(part) else part


def _is_expert(part: str) -> bool:
    return part.startswith("transformer")


def _config(files: ModelFiles, part: str) -> dict[str, Any] | None:
    file = files.config_file(part)
    return None if file is None else _json(file)


def _vae_levels(vae: Mapping[str, Any]) -> dict[str, Any]:
    """What a VAE's configuration says of its sizes; nothing where that is Wan 2.1's."""
    names = {"dim_mult": "vae_levels", "temperal_downsample": "vae_temporal", "num_res_blocks": "vae_blocks"}
    told = {field: vae[name] for name, field in names.items() if name in vae}
    return {field: tuple(value) if isinstance(value, list) else value for field, value in told.items()}


def _check_architecture(path: Path, expert: Mapping[str, Any]) -> None:
    """Refuse other Wan models by their configuration."""
    if expert.get("in_channels") != 36 or expert.get("image_dim") is not None:
        raise CheckpointError(
            f"{path} is not a Wan2.2 I2V A14B expert: it takes {expert.get('in_channels')} input channels"
            f"{' and a CLIP image' if expert.get('image_dim') else ''}; I2V A14B takes 36 and no CLIP image."
        )


def _check_whole(header: Header, identity: Identity, config: Mapping[str, Any]) -> None:
    """Refuse an expert that could not be loaded: found out now, it costs no text encoder and no other expert's steps."""
    entries = entries_of(header, "transformer", identity.prefixes["transformer"])
    fitting.check_supported(header, entries)
    found = {key: header.tensors[entry.stored].shape for key, entry in entries.items()}
    fitting.check(header.path, "transformer", found, transformer_shapes({**transformer_config(found), **config}))


def _packed_bytes(header: Header, identity: Identity) -> int:
    """What an expert's weights take as stored, when most of them are fp8 or GGUF blocks."""
    prefix = identity.prefixes["transformer"]
    mine = [info for name, info in header.tensors.items() if name.startswith(prefix)]
    packed = sum(info.nbytes for info in mine if info.dtype in PACKED_TYPES)
    return sum(info.nbytes for info in mine) if packed else 0


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{path} is missing: {path.parent} is no complete checkpoint. Restore it, or give a name of the catalog "
            "(wan2-i2v models list), the folder of a checkpoint in diffusers layout, or an all-in-one file."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}). Download it again.") from None
