"""Where the catalog's files are on this machine: downloads, the Hub's own cache, ComfyUI's folders. No torch.

Comes in: file entries. Goes out: paths. Files are used where they are; nothing is copied. Imported by the catalog and by
downloading.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models.book import FileEntry
from wan2_i2v.models.facts import Stamp, stamp
from wan2_i2v.models.formats.headers import read_header
from wan2_i2v.models.formats.identify import Identity, identify_header
from wan2_i2v.settings import Settings

FOLDERS = ("diffusion_models", "unet", "checkpoints", "text_encoders", "clip", "vae", "loras")
"""ComfyUI's folders that hold what this package uses, below its models folder."""

SUFFIXES = (".safetensors", ".sft", ".gguf")
"""`.pth` files are not looked through: reading their headers takes torch. They can be named in models.toml."""

USUAL = (
    *("~/ComfyUI/models", "~/comfy/ComfyUI/models", "ComfyUI/models", "/content/ComfyUI/models"),
    *("/workspace/ComfyUI/models", "/opt/ComfyUI/models"),
)
VARIABLES = ("COMFYUI_PATH", "COMFYUI_DIR", "COMFYUI_HOME")
"""Environment variables in use for ComfyUI's own folder, the one that contains models/."""


@dataclass(frozen=True)
class Found:
    """A file in ComfyUI's folders and what it is; `folder` is ComfyUI's name for the kind of file."""

    path: Path
    folder: str
    identity: Identity


def download_folder(repo: str) -> Path:
    """Where a repository's files are downloaded to."""
    return Settings().models.expanduser() / repo.replace("/", "--")


def locate(entry: FileEntry) -> Path | None:
    """The file on this machine, None when it is not here.

    In ComfyUI's folders a file counts under its own name when it is whole, and under another one when it has the known
    length and what it holds can be used.
    """
    downloaded = download_folder(entry.repo) / entry.path
    if downloaded.is_file():
        return downloaded
    comfy = _in_comfyui(entry)
    return comfy or cached(entry.repo, entry.path)


def cached(repo: str, path: str) -> Path | None:
    """The file in the Hub's own cache, where other programs may have put it."""
    from huggingface_hub import constants, try_to_load_from_cache

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return None
    found = try_to_load_from_cache(repo, path)
    return Path(found) if isinstance(found, str) else None


def comfyui_models() -> Path | None:
    """ComfyUI's folder of models: the settings' one, else the first of the usual places, None when there is none.

    Raises InvalidRequest when the settings name a folder without any of ComfyUI's folders in it.
    """
    wanted = Settings().comfyui_models
    if wanted is not None:
        root = wanted.expanduser()
        for folder in (root, root / "models"):
            if any((folder / name).is_dir() for name in FOLDERS):
                return folder.absolute()
        raise InvalidRequest(
            "comfyui_models", str(wanted), f"ComfyUI's folder of models, which holds {', '.join(FOLDERS)}"
        )
    bases = [Path(base) / "models" for name in VARIABLES if (base := os.environ.get(name))]
    usual = [Path(place).expanduser() for place in USUAL]
    return next((place.absolute() for place in (*bases, *usual) if place.is_dir()), None)


def comfyui_files() -> list[Found]:
    """Every weight file in ComfyUI's folders that can be read, with what it is; the unreadable ones are left out."""
    root = comfyui_models()
    if root is None:
        return []
    found = []
    for path, folder in _weight_files(root):
        identity = _identity(path, stamp([path]))
        if identity is not None:
            found.append(Found(path, folder, identity))
    return found


def _weight_files(root: Path) -> Iterator[tuple[Path, str]]:
    for folder in FOLDERS:
        yield from ((file, folder) for file in weight_files(root / folder))


def weight_files(folder: Path) -> list[Path]:
    """The weight files below a folder, links to folders followed, as ComfyUI does."""
    found, seen = [], set[str]()
    for place, inside, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            # A link that leads to where it is, or a second one to the same folder.
            inside.clear()
            continue
        seen.add(real)
        found += [path for name in names if (path := Path(place, name)).suffix in SUFFIXES and path.is_file()]
    return sorted(found)


@lru_cache(maxsize=1024)
def _identity(path: Path, files: Stamp) -> Identity | None:
    try:
        return identify_header(read_header(path))
    except CheckpointError:
        # Somebody else's folder: a damaged file in it is no reason to fail. Named by itself, it is an error.
        return None


def _in_comfyui(entry: FileEntry) -> Path | None:
    root = comfyui_models()
    if root is None:
        return None
    listed = list(_weight_files(root))
    named = [path for path, _ in listed if path.name == entry.name]
    whole = next((path for path in named if _identity(path, stamp([path])) is not None), None)
    if whole is not None:
        return whole
    same = [path for path, _ in listed if entry.bytes and path.stat().st_size == entry.bytes]
    return next((path for path in same if _alike(path, entry)), None)


def _alike(path: Path, entry: FileEntry) -> bool:
    """Whether a file of an entry's length under another name can be it: the expert that both names speak of agrees."""
    from wan2_i2v.models.formats.identify import noise_hint

    identity = _identity(path, stamp([path]))
    return identity is not None and identity.usable and noise_hint(path) == noise_hint(Path(entry.name))
