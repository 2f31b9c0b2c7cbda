"""One process per device: a lock file that names its owner. Imported by the service, and by doors that look for one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from wan2_i2v.jobs.errors import DeviceBusy
from wan2_i2v.settings import Settings


def lock_folder() -> Path:
    """Where lock files of this machine are: the same for every process of this user, whatever its working directory."""
    return (
        Settings().locks
        or Path(tempfile.gettempdir()) / f"wan2-i2v-{os.getuid() if hasattr(os, 'getuid') else 'locks'}"
    )


def lock_path(device: str, folder: Path | None = None) -> Path:
    return (folder or lock_folder()) / f"{device.replace(':', '-')}.lock"


def owner(device: str, folder: Path | None = None) -> dict[str, object] | None:
    """What the owner of a device said of itself (`pid`, `url`); it may be gone. None when nobody ever owned it."""
    try:
        said = json.loads(lock_path(device, folder).with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def url_of_owner(device: str, folder: Path | None = None) -> str:
    """Where the process that owns a device now takes jobs; empty when nobody owns it, or it takes none."""
    said = owner(device, folder)
    if said is None or not said.get("url"):
        return ""
    lock = FileLock(lock_path(device, folder), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return str(said["url"])
    # It died without a word.
    lock.release()
    return ""


@contextlib.contextmanager
def owning(device: str, url: str = "", folder: Path | None = None) -> Iterator[None]:
    """Own a device. The operating system lets go of the lock when this process dies, however it dies.

    Raises DeviceBusy, naming the owner, when another process has it.
    """
    path = lock_path(device, folder)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        other = owner(device, folder) or {}
        raise DeviceBusy(
            f"{device} is in use by process {other.get('pid', 'unknown')} {other.get('url', '')}".rstrip()
            + f" (lock file {path}). Send your jobs there, or stop it first."
        ) from None
    try:
        said = {"pid": os.getpid(), "url": url, "device": device}
        path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")
        yield
    finally:
        path.with_suffix(".json").unlink(missing_ok=True)
        lock.release()
