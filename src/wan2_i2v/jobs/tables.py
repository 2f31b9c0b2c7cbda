"""The two tables of the job store and how its databases are opened. Imported by the store only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    literal_column,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, TimeoutError

from wan2_i2v.jobs.errors import JobConflict, StoreUnavailable

LOCK_WAIT_SECONDS = 15.0
WRITERS = 0x57414E32
"""Key of the PostgreSQL advisory lock that every writer takes: one writer at a time, as SQLite has it anyway. It makes
event numbers appear in order, so that a reader who has seen number n never misses a smaller one."""

METADATA = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")

JOBS = Table(
    "jobs",
    METADATA,
    Column("seq", _Number, primary_key=True, autoincrement=True),
    Column("id", String(128), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("client", String(128), nullable=False),
    Column("prompts", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("expires_at", Float),
    Column("execution_timeout", Float),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("worker", String(128)),
    Column("token", String(32)),
    Column("lease_until", Float),
    Column("progress", Text),
    Column("error", Text),
    Column("output", Text),
    sqlite_autoincrement=True,
)

RETRIED = JOBS.c.attempts > literal_column("1")
"""Begun more than once. The number stands in the statement itself: only so is the index of just these known to be enough."""

JOBS_INDEXES = (
    Index("ix_jobs_waiting", JOBS.c.state, JOBS.c.priority.desc(), JOBS.c.seq),
    Index("ix_jobs_of_client", JOBS.c.client, JOBS.c.state),
    *(
        Index(f"ix_jobs_{name}", JOBS.c[column], sqlite_where=some, postgresql_where=some)
        for name, column, some in (
            ("retried", "attempts", RETRIED),
            ("mortal", "expires_at", JOBS.c.expires_at.is_not(None)),
        )
    ),
)
"""What is counted with every submission and every look, and looked for every second. Nearly all columns lie behind the plans,
which are long: a count that has no index for all that it asks would read every plan of the queue."""

EVENTS = Table(
    "events",
    METADATA,
    Column("seq", _Number, primary_key=True, autoincrement=True),
    Column("job_id", String(128), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("data", Text, nullable=False),
    Column("at", Float, nullable=False),
    sqlite_autoincrement=True,
)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("seq", _Number, primary_key=True, autoincrement=True),
    Column("job_id", String(128), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Float, nullable=False, index=True),
    sqlite_autoincrement=True,
)
"""Webhooks still to be sent. A row is written in the transaction that ends its job and removed when it was answered."""


def open_engine(url: str, lock_wait: float = LOCK_WAIT_SECONDS) -> Engine:
    """An engine on a SQLite file (WAL, commits flushed to the disk) or a PostgreSQL database.

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
    """WAL lets readers go on while one writes."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock when they begin: a reader that becomes a writer could find its snapshot stale.

    FULL flushes a commit, so that what is acknowledged is on disk; after NORMAL the database is whole, but may lack the last.
    """
    options = connection.get_execution_options()
    if options.get("write", False):
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('durable', True) else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


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
