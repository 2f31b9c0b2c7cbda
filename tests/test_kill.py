"""kill -9 at any instant loses nothing: the resumed video has the bytes of an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("sampler", "stride"), [("lcm", 5), pytest.param("unipc", 1, marks=pytest.mark.heavy)], ids=["lcm", "unipc-all"]
)
def test_killed_before_any_file_operation_a_job_resumes_to_the_same_bytes(checkpoint, tmp_path, sampler, stride):
    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(picture)
    driver = Path(__file__).with_name("kill_driver.py")
    command = [sys.executable, str(driver), str(checkpoint), str(picture), str(tmp_path), sampler, str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["changes"] > 15
    assert len(result["resumed"]) == -(-result["changes"] // stride)
    assert set(result["resumed"].values()) == {result["whole"]}, result
    assert [path.name for path in tmp_path.rglob(".*")] == []
