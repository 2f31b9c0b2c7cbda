"""Is a model on this machine what it should be? Lengths, hashes, headers, names and shapes of every part.

Comes in: a name. Goes out: one `Finding` per file and part. Loads torch for the architectures, but no weights. Imported
by `wan2-i2v models verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wan2_i2v.errors import Wan2I2VError
from wan2_i2v.models import catalog, download, shelf
from wan2_i2v.models.book import Book, FileEntry, book, distinct
from wan2_i2v.models.formats.headers import read_header
from wan2_i2v.models.formats.identify import expect


@dataclass(frozen=True)
class Finding:
    """What was looked at (a file, or a part of the model), whether it is well, and what was found in a sentence."""

    what: str
    ok: bool
    found: str


def verify(name: str) -> Iterator[Finding]:
    """Look at a model or LoRA, part by part. Reads whole files where a hash is known.

    Raises CheckpointError for an unknown name and for a model that is not here.
    """
    base = name.partition(":")[0]
    known = book()
    if base in known.loras:
        yield from _lora_row(known, name)
        return
    for entry in _entries(name):
        path = shelf.locate(entry)
        yield _file(entry, path) if path else Finding(entry.name, ok=False, found="is not here")
    try:
        row = catalog.find(name)
    except Wan2I2VError as error:
        yield Finding("model", ok=False, found=str(error))
        return
    assert row.files is not None
    for part, place in row.files.parts().items():
        yield _part(part, place, row.files.config_file(part))


def _lora_row(known: Book, name: str) -> Iterator[Finding]:
    try:
        files = catalog.lora_files(name)
    except Wan2I2VError as error:
        yield Finding("LoRA", ok=False, found=str(error))
        return
    roles = known.loras[name].roles()
    for file in files:
        entry = known.files.get(roles[file.role])
        if file.path is None:
            yield Finding(file.name, ok=False, found="is not here")
            continue
        if entry is not None:
            yield _file(entry, file.path)
        yield _lora(file.path)


def _entries(name: str) -> list[FileEntry]:
    """The catalog's files of a model; those that were downloaded of a whole repository; none for what is no row."""
    base, _, variant = name.partition(":")
    known = book()
    if base not in known.models:
        return []
    repo = known.models[base].repo
    if repo:
        return [
            FileEntry(repo=repo, path=path, bytes=facts["bytes"], sha256=facts["sha256"])
            for path, facts in download.ledger(repo).items()
        ]
    return distinct(catalog.files_of(known, base, variant).values())


def _file(entry: FileEntry, path: Path) -> Finding:
    noted = download.ledger(entry.repo).get(entry.path, {})
    length, digest = entry.bytes or noted.get("bytes", 0), entry.sha256 or noted.get("sha256", "")
    size = path.stat().st_size
    if length and size != length:
        return Finding(
            str(path), ok=False, found=f"has {size:,} bytes instead of {length:,}. Remove it and pull it again"
        )
    if not digest:
        return Finding(str(path), ok=True, found="has the right length; its hash is not known" if length else "is here")
    actual = download.sha256(path)
    if actual != digest:
        return Finding(
            str(path), ok=False, found=f"has SHA-256 {actual} instead of {digest}. Remove it and pull it again"
        )
    return Finding(str(path), ok=True, found="has the right length and SHA-256")


def _part(part: str, place: Path, config: Path | None) -> Finding:
    from wan2_i2v.models.formats.opening import Part, open_component

    kind: Part = "text_encoder" if part == "text_encoder" else "vae" if part == "vae" else "transformer"
    try:
        component = open_component(place, kind, config)
    except Wan2I2VError as error:
        return Finding(part, ok=False, found=str(error))
    component.source.close()
    return Finding(part, ok=True, found=f"{component.identity.describe()}: all names and shapes fit")


def _lora(path: Path) -> Finding:
    try:
        identity = expect(read_header(path), "lora")
    except Wan2I2VError as error:
        return Finding(str(path), ok=False, found=str(error))
    return Finding(str(path), ok=True, found=identity.describe())
