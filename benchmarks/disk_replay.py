"""A disk as a recording of power_cut.c makes it, and as a power cut may leave it. Imported by power_cut.py.

Comes in: operations in the order in which they happened. Goes out: the files of the disk in four variants. A file's bytes are
safe once the file was flushed, a name once its folder was; everything else may be there or not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

VARIANTS = ("killed", "flushed", "names first", "half")
"""killed: all that was written. flushed: nothing else. names first: every name, flushed bytes. half: and half of the others."""


@dataclass(frozen=True)
class Operation:
    """`path` and `other` are relative to the recorded folder."""

    kind: str
    process: int
    fd: int
    offset: int
    path: str
    other: str
    data: bytes

    def describe(self) -> str:
        return f"{self.kind} {self.path or f'file {self.fd}'} {self.other}".strip()


@dataclass(eq=False)
class File:
    written: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Offset and bytes of each write since the last flush; None cuts the file at the offset."""

    def change(self, offset: int, data: bytes | None) -> None:
        _put(self.written, offset, data)
        self.waiting.append((offset, data))

    def flush(self) -> None:
        self.flushed, self.waiting = bytes(self.written), []

    def bytes_of(self, variant: str) -> bytes:
        if variant == "killed":
            return bytes(self.written)
        if variant != "half":
            return self.flushed
        found = bytearray(self.flushed)
        for offset, data in self.waiting[: len(self.waiting) // 2]:
            _put(found, offset, data)
        if self.waiting:
            offset, data = self.waiting[len(self.waiting) // 2]
            _put(found, offset, data and data[: len(data) // 2])
        return bytes(found)


@dataclass(eq=False)
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    flushed: dict[str, File | Folder] = field(default_factory=dict)

    def flush(self) -> None:
        self.flushed = dict(self.names)


class Disk:
    """`acknowledged`: what the recorded process had promised by now."""

    def __init__(self) -> None:
        self.top = Folder()
        self.acknowledged: set[str] = set()
        self._opened: dict[tuple[int, int], File | Folder] = {}

    def apply(self, operation: Operation) -> None:
        kind = operation.kind
        if kind in ("open", "create", "truncopen"):
            self._open(operation)
        elif kind in ("write", "truncate"):
            file = self._opened[operation.process, operation.fd]
            assert isinstance(file, File)
            file.change(operation.offset, operation.data if kind == "write" else None)
        elif kind == "sync":
            self._opened[operation.process, operation.fd].flush()
        elif kind == "mark":
            self.acknowledged.add(Path(operation.path).name)
        else:
            self._name(operation)

    def found(self, variant: str) -> dict[str, bytes | None]:
        """Bytes of files, None for folders, by relative path. SQLite's index of its log is rebuilt and left out."""
        return dict(_below(self.top, "", variant))

    def _open(self, operation: Operation) -> None:
        folder, name = self._place(operation.path)
        node: File | Folder = self.top if not name else folder.names.get(name) or folder.names.setdefault(name, File())
        if operation.kind == "truncopen" and isinstance(node, File) and node.written:
            node.change(0, None)
        self._opened[operation.process, operation.fd] = node

    def _name(self, operation: Operation) -> None:
        folder, name = self._place(operation.path)
        if operation.kind == "mkdir":
            folder.names[name] = Folder()
        elif operation.kind in ("unlink", "rmdir"):
            del folder.names[name]
        else:
            other, new = self._place(operation.other)
            # Renaming one of two names of a file to the other one does nothing.
            if other.names.get(new) is not folder.names[name]:
                other.names[new] = folder.names[name]
                if operation.kind == "rename":
                    del folder.names[name]

    def _place(self, path: str) -> tuple[Folder, str]:
        """The folder that a path is in, and its name there; an empty name is the top."""
        *above, name = path.split("/")
        folder = self.top
        for part in above:
            below = folder.names[part]
            assert isinstance(below, Folder)
            folder = below
        return folder, name


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        data = b""
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _below(folder: Folder, prefix: str, variant: str) -> Iterator[tuple[str, bytes | None]]:
    names = folder.names if variant in ("killed", "names first") else folder.flushed
    if variant == "half":
        # Of the names that were not flushed, every other one.
        news = sorted(set(folder.names.items()) - set(folder.flushed.items()), key=lambda item: item[0])[::2]
        names = folder.flushed | dict(news)
    for name, node in names.items():
        path = f"{prefix}{name}"
        if isinstance(node, Folder):
            yield path, None
            yield from _below(node, f"{path}/", variant)
        elif not name.endswith("-shm"):
            yield path, node.bytes_of(variant)


def read_log(log: Path, root: str) -> Iterator[Operation]:
    """The recording's operations, with paths below `root` made relative to it."""
    content = log.read_bytes()
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        kind, process, fd, offset, size, first, second = content[at:end].decode().split(" ")
        at = end + 1
        path, at = content[at : at + int(first)].decode(), at + int(first)
        other, at = content[at : at + int(second)].decode(), at + int(second)
        data, at = content[at : at + int(size)], at + int(size)
        yield Operation(kind, int(process), int(fd), int(offset), _relative(path, root), _relative(other, root), data)


def _relative(path: str, root: str) -> str:
    return "" if path in ("", root) else os.path.normpath(path).removeprefix(f"{root}/")
