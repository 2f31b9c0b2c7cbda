"""The form of a job database: made when there is none, brought up to date when it is older, refused when it is not ours.

Comes in: a connection that may write. Everything happens in its transaction: a database is changed wholly or not at all, and
no job is lost. Imported by the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Column, Connection, Integer, Table, insert, inspect, select, text, update

from wan2_i2v.jobs.errors import StoreMismatch
from wan2_i2v.jobs.tables import JOBS, JOBS_INDEXES, METADATA

VERSION = 3
"""1: jobs and events. 2: jobs know their client and the words of their prompts; webhooks to be sent. 3: other indexes."""

SCHEMA = Table("wan2_i2v_schema", METADATA, Column("version", Integer, nullable=False))


def prepare(connection: Connection) -> None:
    """Make the tables, or bring them to `VERSION`.

    Raises StoreMismatch for a database of a later version, and for one whose tables are another program's.
    """
    tables = inspect(connection).get_table_names()
    if JOBS.name not in tables:
        METADATA.create_all(connection)
        connection.execute(insert(SCHEMA).values(version=VERSION))
        return
    version = _version(connection, tables)
    if version > VERSION:
        raise StoreMismatch(
            f"the job database is of schema {version}; this version of wan2-i2v knows schemas up to {VERSION}. Nothing was "
            "changed. Run the version that wrote it, or give this one another WAN2_I2V_OUTPUT or WAN2_I2V_DATABASE."
        )
    for older in range(version, VERSION):
        MIGRATIONS[older](connection)
    METADATA.create_all(connection)
    _check_columns(connection)
    if connection.execute(update(SCHEMA).values(version=VERSION)).rowcount == 0:
        connection.execute(insert(SCHEMA).values(version=VERSION))


def _version(connection: Connection, tables: list[str]) -> int:
    if SCHEMA.name in tables:
        return int(connection.scalar(select(SCHEMA.c.version)) or 0)
    # The first databases did not say their version.
    columns = _columns(connection, JOBS.name)
    if not {"seq", "digest", "plan", "token"} <= columns:
        raise StoreMismatch(_FOREIGN)
    return 2 if "prompts" in columns else 1


def _columns(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _check_columns(connection: Connection) -> None:
    for table in METADATA.sorted_tables:
        if not {column.name for column in table.columns} <= _columns(connection, table.name):
            raise StoreMismatch(_FOREIGN)


def _add_client_and_prompts(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE jobs ADD COLUMN client VARCHAR(128) NOT NULL DEFAULT ''"))
    connection.execute(text("ALTER TABLE jobs ADD COLUMN prompts TEXT NOT NULL DEFAULT ''"))
    for seq, request in connection.execute(select(JOBS.c.seq, JOBS.c.request)).all():
        asked = json.loads(request)
        prompts = f"{asked.get('prompt', '')}\n{asked.get('negative_prompt', '')}".casefold()
        connection.execute(update(JOBS).where(JOBS.c.seq == seq).values(prompts=prompts))


def _replace_indexes(connection: Connection) -> None:
    for old in ("ix_jobs_state", "ix_jobs_client"):
        connection.execute(text(f"DROP INDEX IF EXISTS {old}"))
    for index in JOBS_INDEXES:
        index.create(connection, checkfirst=True)


MIGRATIONS: dict[int, Callable[[Connection], None]] = {1: _add_client_and_prompts, 2: _replace_indexes}
"""What leads from a version to the next."""

_FOREIGN = (
    "the database has a table named jobs (or events, deliveries) that wan2-i2v did not make, or not wholly. Nothing was "
    "changed. Give WAN2_I2V_DATABASE a database of its own."
)
