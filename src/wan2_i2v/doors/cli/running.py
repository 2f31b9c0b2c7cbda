"""Run planned jobs for a person at a terminal: progress, Ctrl-C, and what came out. Used by generate and resume."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import typer

from wan2_i2v import api
from wan2_i2v.doors.cli import handover, output, progress
from wan2_i2v.errors import Cancelled, VerificationFailed, Wan2I2VError, from_dict
from wan2_i2v.record import Record

STOPPING = b"\nStopping after this step; Ctrl-C again stops at once. Nothing that is finished is lost.\n"


def run(orders: Sequence[api.Order], *, quiet: bool, as_json: bool, rename: bool = False) -> list[int]:
    """Run jobs, here or in the service that owns the device, and report each; one exit code per job.

    `rename`: see `handover.run`. Raises Cancelled, with the command that goes on, after Ctrl-C.
    """
    url = handover.url_for(orders)
    silent = quiet or as_json
    if not silent:
        for order in orders:
            for warning in order.plan.warnings:
                output.say(f"{order.plan.job_id}: {warning}")
    try:
        with cancelling() as cancelled, progress.watching(len(orders), silent=silent) as on_event:
            if url:
                if not silent:
                    output.say(f"handed to the service at {url}")
                records = handover.run(url, orders, on_event, cancelled, rename=rename)
            else:
                records = api.run(orders, on_event, cancelled)
    except Cancelled:
        if url:
            raise
        names = shlex.join(str(order.workspace.root) for order in orders)
        raise Cancelled(f"cancelled. Go on with: wan2-i2v resume {names}") from None
    return [_report(record, quiet=quiet, as_json=as_json) for record in records]


def _report(record: Record, *, quiet: bool, as_json: bool) -> int:
    problem = problem_of(record)
    if as_json:
        output.result(record.model_dump(mode="json"))
    elif record.video is not None:
        typer.echo(record.video)
        if not quiet:
            output.say(describe(record))
    if problem is not None and not (as_json and record.status == "done"):
        output.error(problem, as_json=as_json, label=record.job_id)
    return 0 if problem is None else problem.exit_code


def problem_of(record: Record) -> Wan2I2VError | None:
    """Why a job is no success: its error, or the checks that its video did not pass."""
    if record.status != "done":
        return from_dict(record.error or {"message": "the job failed"})
    failures = record.verification.failures if record.verification is not None else ()
    if record.verification is not None and not failures:
        return None
    told = "; ".join(check.message for check in failures) or "the video was not looked at"
    return VerificationFailed(f"{record.video} was made but did not pass its checks: {told}")


def describe(record: Record) -> str:
    """One line: what the video is and how long it took."""
    plan = record.plan
    checks = record.verification.checks if record.verification is not None else ()
    passed = sum(check.passed for check in checks)
    return (
        f"  {plan.width}×{plan.height}, {plan.num_frames} frames at {plan.fps:g} fps ({plan.duration_s:.3f} s), "
        f"seed {plan.seed}, {passed} of {len(checks)} checks passed, "
        f"{sum(record.seconds.values()):.1f} s of work"
    )


@contextlib.contextmanager
def cancelling() -> Iterator[Callable[[], bool]]:
    """A flag that the first Ctrl-C sets; the second one ends the process."""
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not print: a signal may arrive in the middle of another one.
        os.write(2, STOPPING)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
