"""The peak of this process's private memory: what is resident without pages of mapped files. Linux counts no such peak.

Linux counts the largest resident size since a reset, mapped pages included, and those come and go: 300 MiB of them that
were dropped before the end made a peak 0.29 GiB too high, as many that came after it made one 0.29 GiB too low. So the
count is read and reset many times a second, and each time the pages of that moment are taken off. What is found is never
above the peak, and below it only where memory was held for less than an interval in which pages came or went.
Imported by `measuring`.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Resets the largest resident size (`man proc_pid_clear_refs`)."""

INTERVAL_S = 0.02


def held() -> int:
    """Bytes of private memory now."""
    sizes = _sizes()
    return sizes["VmRSS"] - sizes["RssFile"]


class Peak:
    """The largest private memory since this was made; a thread looks at it until `end`."""

    def __init__(self) -> None:
        self._most = 0
        self._ended = threading.Event()
        self._pages = _sizes()["RssFile"]
        CLEAR.write_text(RESET_PEAK)
        self._thread = threading.Thread(target=self._watch, name="peak", daemon=True)
        self._thread.start()

    def end(self) -> int:
        """The peak in bytes; nothing is looked at any more."""
        self._ended.set()
        self._thread.join()
        self._look()
        return self._most

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        sizes = _sizes()
        CLEAR.write_text(RESET_PEAK)
        pages, self._pages = max(self._pages, sizes["RssFile"]), sizes["RssFile"]
        self._most = max(self._most, sizes["VmRSS"] - sizes["RssFile"], sizes["VmHWM"] - pages)


def _sizes() -> dict[str, int]:
    """Bytes by the names that Linux has for them."""
    found = re.findall(r"^(VmHWM|VmRSS|RssFile):\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return {name: int(number) * 1024 for name, number in found}
