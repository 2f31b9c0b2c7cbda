"""A job's directory: where each stage leaves its artifact. A leaf without torch.

Every write goes to a temporary name, is flushed to the disk and renamed, so that a reader (or a resumed run) sees an
artifact whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from wan2_i2v.errors import JobNotFound
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest


@dataclass(frozen=True)
class Workspace:
    """Paths of one job's artifacts below `root`."""

    root: Path

    @property
    def request(self) -> Path:
        return self.root / "request.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def prepared(self) -> Path:
        """The picture as the model sees it: RGB PNG of the video's size."""
        return self.root / "prepared.png"

    @property
    def prepared_last(self) -> Path:
        """The last picture, where there is one, in the same form."""
        return self.root / "prepared-last.png"

    @property
    def text(self) -> Path:
        """prompt_embeds (and negative_prompt_embeds when guidance needs them)."""
        return self.root / "text.safetensors"

    @property
    def conditioning(self) -> Path:
        """latent_condition: mask and image latent."""
        return self.root / "conditioning.safetensors"

    @property
    def latents(self) -> Path:
        """The clip's latents after the last finished denoise step, with the sampler's state."""
        return self.root / "latents.safetensors"

    @property
    def comfyui(self) -> Path:
        """Under which id a ComfyUI server has this job."""
        return self.root / "comfyui.json"

    @property
    def fetched(self) -> Path:
        """The video as ComfyUI made it."""
        return self.root / "comfyui.mp4"

    @property
    def verification(self) -> Path:
        """The verdict on the clip."""
        return self.root / "verification.json"

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    def attempt(self, number: int) -> Workspace:
        """The folder of one of several clips that are made for this job, from 1."""
        return Workspace(self.root / "attempts" / str(number))

    def create(self, request: GenerateRequest | None, plan: JobPlan) -> None:
        """Make the directory and write request and plan, unless they are there already.

        What else was put into the directory before is on the disk by its name when this returns.
        """
        make_folder(self.root)
        for path, value in ((self.request, request), (self.plan, plan)):
            if value is not None and not path.exists():
                save_json(path, value, flush_name=False)
        sync_folder(self.root)

    def sweep(self) -> None:
        """Remove what a killed run left half written; call it only in the process that runs the job."""
        written_once = (self.request, self.plan, self.prepared, self.prepared_last, self.text, self.conditioning)
        for artifact in (*written_once, self.latents, self.comfyui, self.fetched, self.verification, self.record):
            sweep(artifact)

    def load_plan(self) -> JobPlan:
        """The stored plan.

        Raises JobNotFound when the directory holds none.
        """
        if not self.plan.is_file():
            raise JobNotFound(f"{self.root} holds no plan.json; give a job id or the job's folder.")
        return JobPlan.model_validate_json(self.plan.read_text(encoding="utf-8"))

    def load_record(self) -> Record | None:
        if not self.record.is_file():
            return None
        return Record.model_validate_json(self.record.read_text(encoding="utf-8"))


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True, flush_name: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`; on a clean exit it is flushed and renamed to `path`, else removed.

    Without `flush_name` a power cut may leave what had the name before, until somebody flushes the folder: for several files
    of one folder, and for what is no loss. Raises FileExistsError on exit when something else has the name and `overwrite` is
    False.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        _flush(temporary)
        if not overwrite:
            _claim(temporary, path)
        temporary.replace(path)
        if flush_name:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """An empty file beside `path`, with the rights that this process gives new files.

    `tempfile` makes files that only their owner may read, and who asks for the umask has to change it: two threads at once
    could leave the process without one.
    """
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _claim(temporary: Path, path: Path) -> None:
    """Give `temporary` the name `path` as well, in one step that only one process can win.

    File systems without links get an empty file of that name instead. Raises FileExistsError when the name is taken.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        path.touch(exist_ok=False)


@contextlib.contextmanager
def replacing_folder(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """`replacing` for a folder: the temporary folder takes the name `path` once it is whole.

    A folder that `path` names is moved aside for the rename and removed after it.
    Raises FileExistsError on exit when `path` is there and `overwrite` is False.
    """
    temporary, old = (path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}{end}") for end in ("", "-old"))
    temporary.mkdir()
    try:
        yield temporary
        for entry in temporary.iterdir():
            _flush(entry)
        sync_folder(temporary)
        if path.exists():
            if not overwrite:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            path.rename(old)
        _rename_folder(temporary, path)
        sync_folder(path.parent)
    finally:
        for leftover in (temporary, old):
            if leftover.exists():
                shutil.rmtree(leftover)


def _rename_folder(temporary: Path, path: Path) -> None:
    """Rename, in one step that only one process can win. Raises FileExistsError when `path` has something in it."""
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise


def sweep(path: Path) -> None:
    """Remove what a killed process left of writing `path`; call it only where nobody else is writing `path` now."""
    left = re.compile(rf"\.{re.escape(path.stem)}-[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    for entry in path.parent.iterdir():
        if left.fullmatch(entry.name):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _flush(file: Path) -> None:
    """Put a file's bytes on the disk. Opened for writing, which Windows wants for that."""
    with file.open("r+b") as written:
        os.fsync(written.fileno())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, so that a power cut does not take them away with what is in them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut; a no-op where folders cannot be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save_json(path: Path, value: BaseModel, *, flush_name: bool = True) -> None:
    """Write a model as indented JSON, atomically; `flush_name` as for `replacing`."""
    with replacing(path, flush_name=flush_name) as temporary:
        temporary.write_text(value.model_dump_json(indent=2) + "\n", encoding="utf-8")
