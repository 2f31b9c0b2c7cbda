"""Events as progress on stderr: bars in a terminal, one line per stage elsewhere, nothing when silent."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from wan2_i2v.doors.cli import output
from wan2_i2v.events import Emit, Event, Log, Progress, Started, ignore


@contextlib.contextmanager
def watching(jobs: int, *, silent: bool) -> Iterator[Emit]:
    """A sink for the events of `jobs` clips that run together."""
    if silent:
        yield ignore
    elif not sys.stderr.isatty():
        yield Lines(jobs)
    else:
        columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        eta = (TextColumn("ETA"), TimeRemainingColumn())
        with RichProgress(*columns, *eta, console=Console(stderr=True)) as bars:
            yield Bars(bars, jobs)


class Lines:
    """One line when a stage begins; warnings as they come."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._stage = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Log):
            output.say(f"{event.job_id}: {event.message}")
        elif isinstance(event, Started) and event.stage != self._stage:
            self._stage = event.stage
            clips = f" of {self._jobs} clips" if self._jobs > 1 else ""
            output.say(f"{event.stage}{clips} ({event.total} steps)" if event.total > 1 else f"{event.stage}{clips}")


class Bars:
    """One bar per stage, counting the steps of all clips together."""

    def __init__(self, bars: RichProgress, jobs: int) -> None:
        self._bars, self._jobs = bars, jobs
        self._stage, self._task = "", TaskID(0)
        self._before = self._total = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Log):
            self._bars.console.print(f"{event.job_id}: {event.message}", markup=False, highlight=False)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Progress) and event.stage == self._stage:
            self._bars.update(self._task, completed=self._before + event.done)

    def _start(self, event: Started) -> None:
        """A new clip in this stage, or a new stage: the bar before is complete, even where clips dropped out."""
        if event.stage == self._stage:
            self._before += self._total
        else:
            if self._stage:
                self._bars.update(self._task, total=self._bars.tasks[-1].completed)
            self._task = self._bars.add_task(event.stage, total=event.total * self._jobs)
            self._stage, self._before = event.stage, 0
        self._total = event.total
