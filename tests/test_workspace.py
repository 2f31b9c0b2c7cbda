"""What a job's folder holds is written and read the same way on every system."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import plans
from wan2_i2v.request import GenerateRequest
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


@pytest.mark.skipif(os.name != "posix", reason="asks for the mode of a file")
def test_files_have_the_rights_of_new_files_and_the_umask_is_not_touched(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            # There is one for all threads of a process: who sets it to read it changes the files of others.
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
            with replacing(tmp_path / "one.txt") as temporary:
                temporary.write_text("one")
        assert stat.S_IMODE((tmp_path / "one.txt").stat().st_mode) == 0o640
    finally:
        os.umask(before)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks for the names of open files")
def test_a_new_job_is_on_the_disk_with_four_flushes(tmp_path, monkeypatch):
    """A submission waits for each of them: the folder's name, request, plan, and once the names of all that is in it."""
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    (tmp_path / "jobs").mkdir()
    job = Workspace(tmp_path / "jobs" / "a")
    job.create(GenerateRequest(image="boat.png"), plans.plan())
    folders = [str(tmp_path / "jobs"), str(job.root)]
    assert [name for name in flushed if Path(name).is_dir()] == folders
    assert len(flushed) == 4
    assert flushed[-1] == str(job.root)
