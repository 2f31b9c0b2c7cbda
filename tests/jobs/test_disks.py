"""A disk that becomes read-only, and one that is full while a job computes: said clearly, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ISOLATED = ["unshare", "-rm"]


def can_mount(folder: Path) -> bool:
    """Whether this user may have a mount namespace of its own here."""
    if shutil.which("unshare") is None:
        return False
    attempt = [*ISOLATED, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(attempt, capture_output=True).returncode == 0


def test_a_read_only_and_a_full_disk(checkpoint, tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no mount namespaces here (unshare -rm mount)")
    driver = Path(__file__).with_name("disk_driver.py")
    command = [*ISOLATED, sys.executable, str(driver), str(checkpoint), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])

    refused = told["read-only"]
    assert (refused["status"], refused["code"], refused["left"]) == (507, "output_error", False)
    assert refused["known"] == "done"
    assert (told["full"]["status"], told["full"]["code"], told["full"]["left"]) == (507, "output_error", False)

    assert told["computing"]["state"] == "failed"
    assert told["computing"]["error"]["code"] == "output_error"
    assert "disk full" in told["computing"]["error"]["message"]
    assert told["after"] == "done"
    assert told["videos"]["full"] == told["videos"]["whole"]
    assert told["hidden"] == []
