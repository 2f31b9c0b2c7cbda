"""`wan2-i2v resume`: go on with jobs that were stopped, killed or failed."""

from __future__ import annotations

from typing import Annotated

import typer

from wan2_i2v.doors.cli.generate import first_failure
from wan2_i2v.doors.cli.output import AsJson, Quiet

Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="Job ids, or folders of jobs.", show_default=False)]


def resume(jobs: Jobs, quiet: Quiet = False, json: AsJson = False) -> int:
    """Go on with stopped jobs.

    They continue after their last finished step; the video is the same as without the stop.
    """
    from wan2_i2v import api
    from wan2_i2v.doors.cli import running

    orders = [api.reopen(job) for job in jobs]
    return first_failure(running.run(orders, quiet=quiet, as_json=json))
