"""Text embeddings kept on disk by content, so that a prompt seen before needs no text encoder.

Comes in: an encoder's identity and a prompt. Goes out: the embeddings of its real tokens, or None. A key is a SHA-256 over
everything that decides them: weights, tokenizer, prompt, dtype, kind of device, versions of torch and transformers. So an
entry is never stale, only unused; the least recently used go when the folder grows beyond `MOST_BYTES`. Entries are
written atomically and carry a checksum, so any number of processes may read and write at once. Imported by stages.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save

from wan2_i2v.models.formats.headers import fingerprint, read_header
from wan2_i2v.rows import ModelFiles
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import replacing

MOST_BYTES = 256 * 2**20
NAME = "embeds"
BEING_WRITTEN_S = 3600.0


def encoder_identity(files: ModelFiles, dtype: str, device: str) -> str:
    """What decides the embeddings of a prompt, as one string: content of weights and tokenizer, dtype, device, versions."""
    weights = read_header(files.text_encoder)
    stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in weights.files]
    parts = {
        "weights": fingerprint(weights),
        "stamps": stamps,
        "tokenizer": _tokenizer_digest(files.tokenizer),
        "dtype": dtype,
        "device": device.partition(":")[0],
        "versions": [version("torch"), version("transformers")],
    }
    return json.dumps(parts, sort_keys=True)


def _tokenizer_digest(place: Path | None) -> str:
    """Empty for a tokenizer that is inside the text encoder's own file."""
    if place is None:
        return ""
    digest = hashlib.sha256()
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if file.is_file():
            content = (
                hashlib.sha256(file.read_bytes()).hexdigest() if place.is_dir() else fingerprint(read_header(file))
            )
            digest.update(f"{file.name}:{content};".encode())
    return digest.hexdigest()


def find(identity: str, prompt: str) -> torch.Tensor | None:
    """The embeddings (1, tokens, text_dim) of a prompt; None when they are not here or not whole."""
    path = _path(identity, prompt)
    try:
        content = path.read_bytes()
        # The time of the last use decides which entries go first.
        os.utime(path)
    except OSError:
        return None
    checksum, data = content[:32], content[32:]
    if hashlib.sha256(data).digest() != checksum:
        return None
    try:
        return parse(data)[NAME]
    except (SafetensorError, KeyError):
        return None


def keep(identity: str, prompt: str, embeds: torch.Tensor) -> None:
    """Store the embeddings (1, tokens, text_dim) of a prompt and let the least recently used ones go.

    Raises OSError when the cache folder cannot be written.
    """
    path = _path(identity, prompt)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = save({NAME: embeds.cpu().contiguous()})
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
    _bound(path.parent)


def _path(identity: str, prompt: str) -> Path:
    key = hashlib.sha256(json.dumps([identity, prompt]).encode()).hexdigest()
    return Settings().cache / "texts" / f"{key}.embeds"


def _bound(folder: Path) -> None:
    entries, now = [], time.time()
    for path in folder.glob("*.embeds"):
        # Another process may have removed it since.
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            # A hidden one is being written, unless its writer was killed.
            if not path.name.startswith(".") or now - stat.st_mtime > BEING_WRITTEN_S:
                entries.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
