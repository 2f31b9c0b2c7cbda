"""The local database of runs, a SQLite file in the user's data folder: `Book`. Imported by the rest of the insights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from wan2_i2v.errors import OutputError
from wan2_i2v.insights.run import Run
from wan2_i2v.settings import Settings

LOCK_WAIT_SECONDS = 15.0

METADATA = MetaData()
RUNS = Table(
    "runs",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("job", String(128), index=True),
    Column("rating", Integer),
    Column("data", Text, nullable=False),
)
"""`job` names the job whose video this run is, for rating; NULL for attempts that were not chosen and for runs of others."""


class Book:
    """All runs known here. Made if it is not there yet.

    Raises OutputError when the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Settings().insights
        with self._told("opening"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = _engine(self.path)
            METADATA.create_all(self._engine)

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *exception: object) -> None:
        self._engine.dispose()

    def add(self, run: Run, job: str | None) -> None:
        """Keep a run; one of the same id is replaced, its rating kept."""
        self._store([(run, job)], replace=True)

    def merge(self, runs: Iterable[Run]) -> int:
        """Add runs of others; how many were new. What is known already is left as it is."""
        return self._store([(run, None) for run in runs], replace=False)

    def rate(self, job: str, rating: int) -> bool:
        """Rate the video of a job from 1 to 5; False when no run of it is known."""
        with self._told("writing"), self._engine.begin() as connection:
            return connection.execute(update(RUNS).where(RUNS.c.job == job).values(rating=rating)).rowcount > 0

    def runs(self) -> tuple[Run, ...]:
        """All runs, oldest first, with their ratings."""
        with self._told("reading"), self._engine.connect() as connection:
            rows = connection.execute(select(RUNS.c.data, RUNS.c.rating).order_by(RUNS.c.at, RUNS.c.id)).all()
        return tuple(Run.model_validate_json(data).model_copy(update={"rating": rating}) for data, rating in rows)

    def _store(self, runs: list[tuple[Run, str | None]], *, replace: bool) -> int:
        before = after = 0
        with self._told("writing"), self._engine.begin() as connection:
            for run, job in runs:
                values = {"id": run.id, "at": run.at, "job": job, "rating": run.rating}
                statement = insert(RUNS).values(data=run.model_dump_json(exclude={"rating"}), **values)
                kept = {name: statement.excluded[name] for name in ("at", "job", "data")}
                adding = (
                    statement.on_conflict_do_update(index_elements=["id"], set_=kept)
                    if replace
                    else statement.on_conflict_do_nothing()
                )
                after += connection.execute(adding).rowcount
        return after - before

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error)
            raise OutputError(
                f"{doing} the insights in {self.path} failed: {reason}. Set WAN2_I2V_INSIGHTS to another file."
            ) from error


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": LOCK_WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: object, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]

    return engine
