"""The database of the job store: how it is opened, read and written. SQLite in a file, or PostgreSQL by URL.

Comes in: a URL. Goes out: `Database`, whose `writing` and `reading` give connections. What is written is on the disk when
`writing` is over. Imported by the store.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, TimeoutError

from wan2_i2v.jobs.errors import JobConflict, StoreUnavailable
from wan2_i2v.jobs.flushing import Flusher

LOCK_WAIT_SECONDS = 15.0
WRITERS = 0x57414E32
"""Key of the PostgreSQL advisory lock that every writer takes: one writer at a time, as SQLite has it anyway. It makes
event numbers appear in order, so that a reader who has seen number n never misses a smaller one."""
TIDIED_EVERY = 100
"""Transactions, of some ten pages each."""
MOST_PAGES = 8000
"""Of SQLite's log of writes, 4 kB each, before a commit moves them into the database."""


class Database:
    """For the threads of one process."""

    def __init__(self, url: str, lock_wait: float = LOCK_WAIT_SECONDS) -> None:
        self._engine = open_engine(url, lock_wait)
        self._lock_wait = lock_wait
        self._turn = threading.Lock()
        self._flusher = Flusher(Path(str(self._engine.url.database))) if self._engine.dialect.name == "sqlite" else None
        self._untidied = 0

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that may write, on disk when it is over; one that is not `durable`, once a later one is."""
        # The threads of this process wait here for their turn: SQLite has them look again, less and less often.
        if not self._turn.acquire(timeout=self._lock_wait):
            raise StoreUnavailable(
                f"the job database is busy for more than {self._lock_wait:g} s. Nothing was changed."
            )
        try:
            options = {"write": True, "durable": durable}
            with translated(), self._engine.connect().execution_options(**options) as connection, connection.begin():
                lock_writers(connection, durable=durable)
                yield connection
            self._untidied += 1
            if durable and self._flusher is not None:
                self._flusher.committed()
        finally:
            self._turn.release()
        if durable:
            self._flush()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection

    def tidy(self) -> bool:
        """Now and then move what SQLite has written into the database file, while writers go on; whether it was time.

        Else one submission in a hundred would do it for all of them, and wait for two more flushes.
        """
        if self._flusher is None or self._untidied < TIDIED_EVERY:
            return False
        self._untidied = 0
        with self.reading() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        return True

    def _flush(self) -> None:
        """Wait until all commits are on the disk that are not meant to take their time. PostgreSQL's are."""
        if self._flusher is None:
            return
        try:
            self._flusher.flush()
        except OSError as error:
            raise StoreUnavailable(
                f"the job database cannot be flushed to the disk ({error}): what was written last may not outlive a power "
                "cut. Look after the disk, then start the server again."
            ) from error


def open_engine(url: str, lock_wait: float = LOCK_WAIT_SECONDS) -> Engine:
    """An engine on a SQLite file (WAL, commits to be flushed by `Flusher`) or a PostgreSQL database.

    `lock_wait` is how long, in seconds, a writer waits for its turn.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": lock_wait, "check_same_thread": False}, pool_size=16)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = f"-c lock_timeout={int(lock_wait * 1000)}"
    return create_engine(parsed, connect_args={"options": options}, pool_size=16, pool_pre_ping=True)


def lock_writers(connection: Connection, *, durable: bool) -> None:
    """Wait for this transaction's turn to write. SQLite's BEGIN IMMEDIATE has done so already.

    One that need not be `durable` is not waited for by its commit until it is on the disk; the next durable one takes it along.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})
        if not durable:
            connection.execute(text("SET LOCAL synchronous_commit = off"))


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """WAL lets readers go on while one writes. It is moved into the database by `tidy`; if nobody calls that, by a commit.

    After NORMAL the database is whole whatever happens, but may lack the last commits, which `Flusher` flushes.
    """
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={MOST_PAGES}")


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock when they begin: a reader that becomes a writer could find its snapshot stale.

    Readers begin nothing: each of their statements is a whole by itself.
    """
    if connection.get_execution_options().get("write", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Errors of the database in our words."""
    try:
        yield
    except IntegrityError as error:
        raise JobConflict(f"another submission took this job id at the same moment ({error.orig}).") from error
    except (DBAPIError, TimeoutError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise StoreUnavailable(f"the job database does not answer ({reason}). Nothing was changed.") from error
