"""Real databases for the tests of the store: SQLite files, and a PostgreSQL server of Debian's package when installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine, text


def binaries() -> Path | None:
    """The folder with initdb and postgres; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server with its data below a new folder; yields its URL. PostgreSQL refuses root, so root lends its own user."""
    data = Path(tempfile.mkdtemp(prefix="wan2-i2v-pg-"))
    user = "postgres" if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(data, user)
    here = {"user": user, "cwd": data, "check": True, "capture_output": True, "env": {"HOME": str(data), "LC_ALL": "C"}}
    port = free_port()
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c fsync=off"
    subprocess.run([folder / "initdb", "-D", data / "db", "-U", "wan", "-A", "trust", "-E", "UTF8"], **here)
    start = [folder / "pg_ctl", "-D", data / "db", "-w", "-o", options, "-l", data / "log", "start"]
    # pg_ctl's server inherits its pipes and would keep a capturing reader waiting.
    subprocess.run(start, **(here | {"capture_output": False, "stdout": subprocess.DEVNULL}))
    try:
        yield f"postgresql://wan@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([folder / "pg_ctl", "-D", data / "db", "-m", "immediate", "-w", "stop"], **here)
        shutil.rmtree(data, ignore_errors=True)


def fresh_database(server: str) -> str:
    """The URL of a new, empty database on a PostgreSQL server."""
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.rsplit("/", 1)[0] + f"/{name}"


def can_run_postgres() -> str:
    """Why there is no PostgreSQL here; empty when there is."""
    if binaries() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root and there is no user postgres"
    return ""
