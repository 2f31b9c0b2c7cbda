"""The two tables of the job store and how its databases are opened. Imported by the store only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import make_url

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
    Column("state", String(16), nullable=False, index=True),
    Column("priority", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("client", String(128), nullable=False, index=True),
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
    """An engine on a SQLite file (WAL, every commit flushed to the disk) or a PostgreSQL database.

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


def lock_writers(connection: Connection) -> None:
    """Wait for this transaction's turn to write. SQLite's BEGIN IMMEDIATE has done so already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """WAL lets readers go on while one writes; FULL flushes each commit, so that what is acknowledged is on disk."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock when they begin: a reader that becomes a writer could find its snapshot stale."""
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
