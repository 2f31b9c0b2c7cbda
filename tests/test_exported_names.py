"""What `wan2_i2v` exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wan2_i2v

HEAVY = ("torch", "diffusers", "transformers", "scipy", "cv2", "av")


def test_every_exported_name_is_there_and_documented():
    assert wan2_i2v.__all__ == sorted(wan2_i2v.__all__)
    for name in ("GenerateRequest", "JobPlan", "Record", "Wan2I2VError", "generate", "generate_many", "plan", "resume"):
        assert getattr(wan2_i2v, name).__doc__
    assert all(hasattr(wan2_i2v, name) for name in wan2_i2v.__all__)


def test_the_errors_are_all_exported():
    def tree(cls):
        # Layers above have errors of their own, which they document themselves.
        below = [sub for sub in cls.__subclasses__() if sub.__module__ == cls.__module__]
        return {cls.__name__}.union(*(tree(sub) for sub in below))

    assert tree(wan2_i2v.Wan2I2VError) <= set(wan2_i2v.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import wan2_i2v",
        "import wan2_i2v.plan; from wan2_i2v import plan; assert plan.__module__ == 'wan2_i2v.api'",
        "from wan2_i2v.doors.cli import main; assert main(['--help']) == 0",
        "from wan2_i2v.doors.cli import main; assert main(['generate', '--help']) == 0",
    ],
)
def test_importing_and_help_load_nothing_heavy(code):
    check = f"import sys; {code}; print('loaded:', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
