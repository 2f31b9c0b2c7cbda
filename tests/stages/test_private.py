"""The peak of private memory, with pages of mapped files that stay, go and come."""

from __future__ import annotations

import mmap
import os
import threading
import time

import pytest

from wan2_i2v.stages import measuring, private

MIB = 1024 * 1024
PAGES, BLOCK, SLACK = 96 * MIB, 64 * MIB, 8 * MIB
PAUSE_S = 10 * private.INTERVAL_S
"""Long enough for the thread to get its turn on a busy machine."""

pytestmark = pytest.mark.skipif(not private.CLEAR.exists(), reason="the system does not count peaks")


@pytest.fixture
def mapped(tmp_path):
    """A file in memory; its pages are not resident yet."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(MIB) * (PAGES // MIB))
    descriptor = os.open(path, os.O_RDONLY)
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as pages:
        yield pages
    os.close(descriptor)


def come(pages: mmap.mmap) -> None:
    assert sum(pages[place] for place in range(0, PAGES, mmap.PAGESIZE)) > 0


def go(pages: mmap.mmap) -> None:
    pages.madvise(mmap.MADV_DONTNEED)


def hold(pages: mmap.mmap) -> None:
    """As much private memory as a stage takes, for a moment."""
    with mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE) as block:
        for place in range(0, BLOCK, mmap.PAGESIZE):
            block[place] = 1
        time.sleep(PAUSE_S)


@pytest.mark.parametrize("work", [(come, hold), (come, hold, go), (hold, come)], ids=["stay", "go", "come"])
def test_pages_of_mapped_files_do_not_count(work, mapped):
    before, peak = private.held(), private.Peak()
    for step in work:
        step(mapped)
        time.sleep(PAUSE_S)
    assert BLOCK - SLACK < peak.end() - before < BLOCK + SLACK


def test_no_thread_is_left_when_a_count_ends():
    measuring.restart("cpu")
    measuring.restart("cpu")
    assert [thread.name for thread in threading.enumerate()].count("peak") == 1
    assert measuring.peak_gib("cpu") > 0
    assert "peak" not in [thread.name for thread in threading.enumerate()]
    assert measuring.peak_gib("cpu") is None
