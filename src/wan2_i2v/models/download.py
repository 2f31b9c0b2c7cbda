"""Files of the catalog brought onto this machine, through huggingface_hub, and taken off it again. No torch.

Comes in: a name of the catalog. Goes out: files below the settings' `models` folder and a ledger of what was downloaded
there. A file is written as `NAME.part` and continued after a kill; it gets its name once its length and SHA-256 are those
that the Hub states. What is on the machine already is used where it is. Imported by the `models` commands.

huggingface_hub's own `hf_hub_download` begins anew after a kill (2.4 downloads to a name that is never seen again), so its
metadata and transfer functions are used below it. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan2_i2v.errors import CheckpointError, OutputError, Wan2I2VError, nearest
from wan2_i2v.models import catalog, shelf
from wan2_i2v.models.book import FileEntry, book, distinct
from wan2_i2v.workspace import replacing

PUBLIC_HUB = "https://huggingface.co"
LEDGER = ".downloaded.json"
SPARE_BYTES = 2**30
INDEX = "model_index.json"
PARTS = (INDEX, "scheduler/", "text_encoder/", "tokenizer/", "transformer/", "transformer_2/", "vae/")
"""What is taken of a whole repository in diffusers layout."""

Report = Callable[[FileEntry, int], None]
"""Called with a file and how many of its bytes are here, now and then."""


@dataclass(frozen=True)
class Removal:
    """What became of one file of `remove`: gone, or why it stays."""

    path: Path
    removed: bool
    why: str = ""


def entries(name: str) -> list[FileEntry]:
    """The files of a model or LoRA of the catalog; of a whole repository, as the Hub lists them.

    Raises CheckpointError for another name, and when the Hub has to be asked and does not answer.
    """
    known, base, _, variant = book(), *name.partition(":")
    if base in known.loras:
        named = known.loras[base].roles().values()
        return [known.files[each] for each in named if each in known.files]
    if base in catalog.BUILTIN:
        raise CheckpointError(
            f"{base!r} is part of the package: it is always here, and can neither be pulled nor removed."
        )
    if base not in known.models:
        raise CheckpointError(f"{name!r} is not in the catalog. {nearest(name, [*known.models, *known.loras])}")
    if known.models[base].repo:
        return _kept(name) or _listed(known.models[base].repo)
    return distinct(catalog.files_of(known, base, variant).values())


def pull(name: str, report: Report = lambda entry, done: None) -> list[Path]:
    """Bring every file of a model or LoRA here that is not; the paths of all of them.

    Raises CheckpointError when the Hub cannot be reached or has another file than the catalog says, or a path of the row
    leads nowhere; OutputError when the disk is too full.
    """
    here = [(entry, shelf.locate(entry)) for entry in entries(name)]
    own = catalog.own_paths(name)
    _check_disk([_sized(entry) for entry, path in here if path is None])
    return [*(path or _fetch(entry, report) for entry, path in here), *own]


def remove(name: str) -> list[Removal]:
    """Take a model's or LoRA's downloaded files off; nothing that was not downloaded, nothing that another one uses.

    Raises CheckpointError as `entries`.
    """
    wanted = entries(name) if _is_small(name) else _ledgered(book().models[name.partition(":")[0]].repo)
    needed = _needed_elsewhere(name)
    return [removal for entry in wanted if (removal := _remove(entry, needed)) is not None]


def ledger(repo: str) -> dict[str, dict[str, Any]]:
    """What was downloaded from a repository: path → `bytes`, `sha256` (empty when the Hub states none), `commit`."""
    file = shelf.download_folder(repo) / LEDGER
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except ValueError as error:
        raise CheckpointError(
            f"{file} is damaged ({error}). Delete it; the files that it noted can then be removed by hand only."
        ) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_small(name: str) -> bool:
    """Whether the catalog itself lists the files, so that the Hub need not be asked."""
    row = book().models.get(name.partition(":")[0])
    return row is None or not row.repo


def _ledgered(repo: str) -> list[FileEntry]:
    return [FileEntry(repo=repo, path=path) for path in ledger(repo)]


def _kept(name: str) -> list[FileEntry]:
    """The files of a whole repository that is here, where the Hub may not be asked for them; none otherwise."""
    from huggingface_hub import constants

    row = catalog.look(name) if constants.HF_HUB_OFFLINE else None
    if row is None or row.files is None or row.files.configs is None:
        return []
    folder, repo = row.files.configs, book().models[name].repo
    paths = (str(file.relative_to(folder)) for file in sorted(folder.rglob("[!.]*")) if file.is_file())
    return [FileEntry(repo=repo, path=path) for path in paths if path.startswith(PARTS)]


def _listed(repo: str) -> list[FileEntry]:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with _asking(repo):
        tree = list(HfApi(endpoint=_endpoint()).list_repo_tree(repo, recursive=True))
    files = [item for item in tree if isinstance(item, RepoFile) and item.path.startswith(PARTS)]
    # The index comes last: a folder that has it counts as a checkpoint that is here.
    files.sort(key=lambda item: item.path == INDEX)
    return [
        FileEntry(repo=repo, path=item.path, bytes=item.size, sha256=item.lfs.sha256 if item.lfs else "")
        for item in files
    ]


def _sized(entry: FileEntry) -> FileEntry:
    """The entry with its length, which the Hub is asked for where the catalog does not know it."""
    if entry.bytes:
        return entry
    with _asking(entry.repo, entry.path):
        return entry.model_copy(update={"bytes": _stated(entry)[1].size or 0})


def _stated(entry: FileEntry) -> tuple[str, Any, dict[str, str]]:
    """Where the Hub has a file, what it states of it, and the headers to ask with."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url, headers = hf_hub_url(entry.repo, entry.path, endpoint=_endpoint()), build_hf_headers()
    return url, get_hf_file_metadata(url, headers=headers, endpoint=_endpoint()), headers


def _check_disk(absent: Sequence[FileEntry]) -> None:
    """Raise OutputError when what is still to come does not fit with a GiB to spare."""
    folder = next(f for f in (shelf.download_folder("x"), *shelf.download_folder("x").parents) if f.is_dir())
    begun = sum(part.stat().st_size for entry in absent for part in _parts(entry))
    needed = sum(entry.bytes for entry in absent) - begun + (SPARE_BYTES if absent else 0)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{needed / 1e9:.1f} GB are needed in {folder} and {free / 1e9:.1f} GB are free. Free some, or choose another "
            "folder with WAN2_I2V_MODELS."
        )


def _parts(entry: FileEntry) -> list[Path]:
    target = shelf.download_folder(entry.repo) / entry.path
    return list(target.parent.glob(f"{target.name}.*.part")) if target.parent.is_dir() else []


def _fetch(entry: FileEntry, report: Report) -> Path:
    """Download one file, going on where an earlier download ended."""
    from filelock import FileLock

    target = shelf.download_folder(entry.repo) / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")), _asking(entry.repo, entry.path):
        if target.is_file():
            return target
        url, stated, headers = _stated(entry)
        size, digest = stated.size or entry.bytes, stated.etag if len(stated.etag or "") == 64 else ""
        _check_stated(entry, size, digest or "")
        part = target.with_name(f"{target.name}.{(stated.etag or 'x')[:16]}.part")
        for other in _parts(entry):
            if other != part:
                other.unlink()
        sized = entry.model_copy(update={"bytes": size})
        _transfer(sized, stated.location, _headers_for(url, stated.location, headers), part, report)
        _check_content(part, entry.name, digest or entry.sha256)
        part.replace(target)
        _note(entry, {"bytes": size, "sha256": digest, "commit": stated.commit_hash or ""})
    return target


def _headers_for(url: str, location: str, headers: dict[str, str]) -> dict[str, str]:
    """The user's token goes to the Hub alone, not to where it redirects."""
    from urllib.parse import urlparse

    same = urlparse(url).netloc == urlparse(location).netloc
    return headers if same else {name: value for name, value in headers.items() if name.lower() != "authorization"}


def _check_stated(entry: FileEntry, size: int, digest: str) -> None:
    """Raise CheckpointError when the Hub's file is not the one that the catalog knows."""
    known, found = (entry.bytes, entry.sha256), (size, digest)
    if any(a and b and a != b for a, b in zip(known, found, strict=True)):
        raise CheckpointError(
            f"{entry.repo} has another {entry.path} than the catalog knows ({size:,} bytes, SHA-256 {digest or 'not stated'}). "
            "To use it all the same, name it in models.toml, with these facts or none."
        )


class _Counted(io.FileIO):
    """A file that says how long it has become."""

    def __init__(self, path: Path, told: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._told = told

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        self._told(self.tell())
        return done


def _transfer(entry: FileEntry, url: str, headers: dict[str, str], part: Path, report: Report) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import disable_progress_bars

    # Progress is ours to show; the library's bar would write into the user's terminal.
    disable_progress_bars()
    with _Counted(part, lambda done: report(entry, done)) as file:
        begun = file.seek(0, io.SEEK_END)
        if begun > entry.bytes > 0:
            # What is longer than the whole is no part of it.
            begun = file.truncate(0)
        report(entry, begun)
        http_get(url, file, resume_size=begun, headers=headers, expected_size=entry.bytes or None)
        os.fsync(file.fileno())


def _check_content(part: Path, name: str, digest: str) -> None:
    if digest and sha256(part) != digest:
        part.unlink()
        raise CheckpointError(f"{name} arrived damaged: its SHA-256 is not {digest}. Pull it again.")


def _note(entry: FileEntry, facts: dict[str, Any]) -> None:
    folder = shelf.download_folder(entry.repo)
    with replacing(folder / LEDGER) as temporary:
        temporary.write_text(json.dumps(ledger(entry.repo) | {entry.path: facts}, indent=1), encoding="utf-8")


def _needed_elsewhere(name: str) -> dict[tuple[str, str], str]:
    """Files of the catalog that another model or LoRA uses all of whose files are here, with the name of that one."""
    known = book()
    needed: dict[tuple[str, str], str] = {}
    others = [
        f"{base}:{variant}" if variant else base
        for base, row in known.models.items()
        for variant in row.variants or ("",)
    ]
    for other in [*others, *known.loras]:
        if other in (name, f"{name}:{name}") or not _is_small(other) or _same(name, other):
            continue
        files = entries(other)
        if files and all(shelf.locate(entry) for entry in files):
            needed |= {(entry.repo, entry.path): other for entry in files}
    return needed


def _same(name: str, other: str) -> bool:
    """Whether two names are one model: `a14b-gguf` is its first variant."""
    base, _, variant = name.partition(":")
    row = book().models.get(base)
    first = row.variants[0] if row and row.variants else ""
    return other == (f"{base}:{variant or first}" if first else base)


def _remove(entry: FileEntry, needed: Mapping[tuple[str, str], str]) -> Removal | None:
    """None for a file that is not here at all."""
    for part in _parts(entry):
        part.unlink()
    path = shelf.locate(entry)
    if path is None:
        return None
    downloaded = shelf.download_folder(entry.repo) / entry.path
    if path != downloaded or entry.path not in ledger(entry.repo):
        return Removal(path, removed=False, why="it was not downloaded by wan2-i2v")
    user = needed.get((entry.repo, entry.path))
    if user is not None:
        return Removal(path, removed=False, why=f"{user}, which is here too, uses it")
    left = {known: facts for known, facts in ledger(entry.repo).items() if known != entry.path}
    path.unlink()
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    with replacing(shelf.download_folder(entry.repo) / LEDGER) as temporary:
        temporary.write_text(json.dumps(left, indent=1), encoding="utf-8")
    return Removal(path, removed=True)


def _endpoint() -> str:
    """The Hub's address; an empty variable, as Compose files hand it on, is none."""
    return os.environ.get("HF_ENDPOINT") or PUBLIC_HUB


@contextlib.contextmanager
def _asking(repo: str, path: str = "") -> Iterator[None]:
    """Errors of the Hub and of the network in this package's words."""
    from huggingface_hub import constants, errors

    what = f"{path} of {repo}" if path else repo
    if constants.HF_HUB_OFFLINE:
        raise CheckpointError(
            f"{what} is not here and HF_HUB_OFFLINE forbids to get it. Unset it, or copy the file here."
        )
    try:
        yield
    except Wan2I2VError:
        raise
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{repo} asks for consent: accept its terms on the Hub and set HF_TOKEN.") from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
        raise CheckpointError(
            f"the Hub has no {what} ({type(error).__name__}). It was renamed or is private: set HF_TOKEN, or name a copy in "
            "models.toml."
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _broke_off(what, error) from error
    except Exception as error:
        raise _broke_off(what, error) from error


def _broke_off(what: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{what} could not be had ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). Run the "
        "command again: it goes on where it stopped."
    )
