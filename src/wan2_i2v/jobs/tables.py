"""The tables of the job store and its indexes. Imported by the store and what belongs to it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text, literal_column

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
