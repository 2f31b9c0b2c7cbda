"""`wan2-i2v rate`: how much the user likes a video, for the insights."""

from __future__ import annotations

from typing import Annotated

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import InvalidRequest

Job = Annotated[str, typer.Argument(help="The video, or the id or folder of its job.", show_default=False)]
Rating = Annotated[str, typer.Argument(metavar="1…5", help="1 is bad, 5 is very good.", show_default=False)]


def rate(job: Job, rating: Rating, json: AsJson = False) -> int:
    """Rate the video of a job from 1 to 5; wan2-i2v insights then tells what is liked."""
    from wan2_i2v import api

    if rating not in ("1", "2", "3", "4", "5"):
        raise InvalidRequest("rating", rating, "a whole number from 1 to 5")
    api.rate(job, int(rating))
    if json:
        output.result({"job": job, "rating": int(rating)})
    else:
        output.say(f"{job}: rated {rating} of 5")
    return 0
