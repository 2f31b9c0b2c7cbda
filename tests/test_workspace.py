"""What a job's folder holds is written and read the same way on every system."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys

import pytest

import plans
from wan2_i2v.workspace import Workspace, replacing, replacing_folder


def test_a_plan_is_read_as_it_was_written_whatever_the_system_encoding(tmp_path):
    Workspace(tmp_path).create(None, plans.plan(prompt="σ, ☃ and ä"))
    code = "import sys; from pathlib import Path; from wan2_i2v.workspace import Workspace; "
    code += "sys.stdout.write(ascii(Workspace(Path(sys.argv[1])).load_plan().prompt))"
    narrow = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=narrow, capture_output=True, text=True, check=False
    )
    assert done.stdout == ascii("σ, ☃ and ä"), done.stderr


@pytest.mark.skipif(os.name != "posix", reason="asks for the mode of an open file")
def test_files_are_flushed_through_handles_that_may_write(tmp_path, monkeypatch):
    """Windows flushes no others."""
    flushed = []

    def flush(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            flushed.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", flush)
    with replacing(tmp_path / "one.txt") as temporary:
        temporary.write_text("one")
    with replacing_folder(tmp_path / "two") as folder:
        (folder / "a.txt").write_text("two")
    assert flushed == [os.O_RDWR, os.O_RDWR]
    assert (tmp_path / "two" / "a.txt").read_text() == "two"
