"""`wan2-i2v resume`: go on with jobs that were stopped, killed or failed."""

from __future__ import annotations

import glob
from typing import Annotated

import typer

from wan2_i2v.doors.cli.generate import first_failure
from wan2_i2v.doors.cli.output import AsJson, Quiet


def _ids(incomplete: str) -> list[str]:
    """For shell completion: the jobs that begin with what was typed."""
    from wan2_i2v.settings import Settings

    return sorted(plan.parent.name for plan in Settings().jobs.glob(f"{glob.escape(incomplete)}*/plan.json"))


Jobs = Annotated[
    list[str],
    typer.Argument(metavar="JOB", help="Job ids, or folders of jobs.", autocompletion=_ids, show_default=False),
]


def resume(jobs: Jobs, quiet: Quiet = False, json: AsJson = False) -> int:
    """Go on with stopped jobs.

    They continue after their last finished step; the video is the same as without the stop.
    """
    from wan2_i2v import api
    from wan2_i2v.doors.cli import running

    orders = [api.reopen(job) for job in jobs]
    return first_failure(running.run(orders, quiet=quiet, as_json=json))
