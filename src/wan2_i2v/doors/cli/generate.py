"""`wan2-i2v generate`: pictures in, videos out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.options import request_options
from wan2_i2v.doors.cli.output import AsJson, Quiet

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE",
        help="Pictures, folders of pictures, or job lists (.jsonl, .csv, .yaml: rows of request fields; flags are "
        "the defaults of every row).",
        show_default=False,
    ),
]


@request_options
def generate(*, images: Images, quiet: Quiet = False, json: AsJson = False, **options: Any) -> int:
    """Make a video of every picture.

    Prints the paths of the videos. Exits with 0 only when all of them exist and passed their checks.
    """
    from wan2_i2v.api import Order
    from wan2_i2v.doors.cli import inputs, running

    entries = inputs.planned(images, options)
    codes = [report_refusal(entry, as_json=json) for entry in entries]
    orders = [entry.outcome for entry in entries if isinstance(entry.outcome, Order)]
    if orders:
        codes += running.run(orders, quiet=quiet, as_json=json)
    return first_failure(codes)


def report_refusal(entry: Any, *, as_json: bool) -> int:
    """Say why an `inputs.Entry` cannot be made, if so; its exit code, 0 when it can."""
    from wan2_i2v.errors import Wan2I2VError

    if not isinstance(entry.outcome, Wan2I2VError):
        return 0
    output.error(entry.outcome, as_json=as_json, label=entry.label)
    return entry.outcome.exit_code


def first_failure(codes: Sequence[int]) -> int:
    return next((code for code in codes if code), 0)
