"""Memory that nothing refers to goes back to the operating system."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import re
from wan2_i2v.models import freeing

def private_mib():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

freeing.free()
before = private_mib()
blocks = [bytes(64 * 1024) for _ in range(2000)]
last = blocks.pop()  # at the end of the heap, so that what is before it is not given back by itself
del blocks
kept = private_mib()
freeing.free()
print(kept - before, private_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts pages as Linux does")
def test_free_blocks_of_the_heap_are_given_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    kept, left = map(float, done.stdout.split())
    assert kept > 50, "the heap keeps them, or this test shows nothing"
    assert left < 10
