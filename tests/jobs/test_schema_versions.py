"""Databases of older versions are brought up to date with all their jobs; those of later ones and of others are refused."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import inspect, text

from wan2_i2v.jobs.database import open_engine
from wan2_i2v.jobs.errors import StoreMismatch
from wan2_i2v.jobs.store import Store


def change(database: str, *statements: str) -> None:
    engine = open_engine(database)
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


INDEXES = {"ix_jobs_waiting", "ix_jobs_of_client", "ix_jobs_retried", "ix_jobs_mortal"}
TO_VERSION_2 = (
    *(f"DROP INDEX {name}" for name in sorted(INDEXES)),
    "CREATE INDEX ix_jobs_state ON jobs (state)",
    "CREATE INDEX ix_jobs_client ON jobs (client)",
    "UPDATE wan2_i2v_schema SET version = 2",
)
TO_VERSION_1 = (
    *TO_VERSION_2,
    "DROP INDEX ix_jobs_client",
    "ALTER TABLE jobs DROP COLUMN client",
    "ALTER TABLE jobs DROP COLUMN prompts",
    "DROP TABLE deliveries",
    "DROP TABLE wan2_i2v_schema",
)


def test_a_database_of_the_first_version_is_brought_up_to_date(database, new_job):
    store = Store(database)
    store.submit(new_job("waits", request=json.dumps({"prompt": "The Boat"}), options={"webhook": "http://x"}))
    store.submit(new_job("runs", request=json.dumps({"negative_prompt": "Blur"})))
    store.claim("w", 1, 60)
    before = [(job.id, job.state, job.request) for job in store.page()]
    store.close()
    change(database, *TO_VERSION_1)

    for _ in range(2):
        store = Store(database)
        assert [(job.id, job.state, job.request) for job in store.page()] == before
        assert [job.id for job in store.page(words=["boat"])] == ["waits"]
        store.close()
    store = Store(database)
    store.submit(new_job("new", client="me"))
    store.cancel("waits")
    assert store.get("new").client == "me"
    store.close()


def test_a_database_of_the_second_version_gets_the_indexes_of_today(database, new_job):
    store = Store(database)
    store.submit(new_job("a"))
    store.close()
    change(database, *TO_VERSION_2)
    store = Store(database)
    with store.reading() as connection:
        found = {index["name"] for index in inspect(connection).get_indexes("jobs")}
    assert found - {"jobs_id_key"} == INDEXES
    assert store.get("a").state == "queued"
    store.close()


def test_a_database_without_a_version_but_of_today_is_taken(database, new_job):
    store = Store(database)
    store.submit(new_job("a"))
    store.close()
    change(database, "DROP TABLE wan2_i2v_schema")
    store = Store(database)
    assert store.get("a").state == "queued"
    store.close()


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["UPDATE wan2_i2v_schema SET version = 99"], "schema 99"),
        (["DROP TABLE jobs", "CREATE TABLE jobs (id INTEGER)", "DROP TABLE wan2_i2v_schema"], "did not make"),
        (["DROP TABLE events", "CREATE TABLE events (id INTEGER)"], "did not make"),
    ],
)
def test_other_databases_are_refused_and_left_as_they_are(database, statements, words):
    Store(database).close()
    change(database, *statements)
    for _ in range(2):
        with pytest.raises(StoreMismatch, match=words) as refusal:
            Store(database)
        assert "WAN2_I2V_DATABASE" in str(refusal.value)
