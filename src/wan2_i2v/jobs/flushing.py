"""One flush for all commits that wait for it. Imported by the store.

SQLite could flush each commit itself (`synchronous=FULL`), while every other writer waits: on a disk that takes 10 ms that is a
hundred jobs a second, one after the other. Here a commit is written and its writer lets the next one write; then all who have
written wait together. What a commit is worth stays the same: nobody hears that it happened before it is on the disk.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path


class Flusher:
    """Flushes the log of writes of one SQLite database, `path`, for the threads of one process."""

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._turn = threading.Condition()
        self._written = self._flushed = 0
        self._flushing = False
        self._broken: OSError | None = None

    def committed(self) -> None:
        """Count a commit that has to be flushed. Call it before anybody else may write, so that none is overtaken."""
        with self._turn:
            self._written += 1

    def flush(self) -> None:
        """Wait until every commit so far is on the disk.

        Raises OSError, from the first failure on for good: a system may forget what it could not write, and say at the next
        flush that all is well.
        """
        with self._turn:
            mine = self._written
            while self._flushing and self._flushed < mine:
                self._turn.wait()
            if self._flushed >= mine:
                return
            if self._broken is not None:
                raise self._broken
            self._flushing, goal = True, self._written
        broken = None
        try:
            self._sync()
        except OSError as error:
            broken = error
        with self._turn:
            self._flushing = False
            if broken is None:
                self._flushed = goal
            self._broken = broken
            self._turn.notify_all()
        if broken is not None:
            raise broken

    def _sync(self) -> None:
        """Opened anew each time: SQLite removes the log, with all that is in it flushed, when its last connection closes."""
        try:
            handle = os.open(self._log, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            getattr(os, "fdatasync", os.fsync)(handle)
        finally:
            os.close(handle)
