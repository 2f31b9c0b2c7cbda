"""What can go wrong with a queue, beside what can go wrong with a clip. Imported by jobs and doors.

Wan2I2VError
├── JobConflict       job_conflict       409  the id belongs to a different job, or the job is in the wrong state
├── QueueFull         queue_full         429  too many jobs wait; `retry_after` seconds
├── StoreUnavailable  store_unavailable  503  the database does not answer; `retry_after` seconds
├── StoreMismatch     store_mismatch     500  the database is of a later version, or another program's
├── DeviceBusy        device_busy        503  another process owns the device
├── WorkerDied        worker_died        500  the process that computes ended; `exit_status`
└── SetAside          set_aside          500  a job ended its worker too often; retry it by hand
"""

from __future__ import annotations

import signal

from wan2_i2v.errors import Wan2I2VError


class JobConflict(Wan2I2VError):
    code, http_status = "job_conflict", 409


class QueueFull(Wan2I2VError):
    code, http_status = "queue_full", 429
    retry_after = 30


class StoreUnavailable(Wan2I2VError):
    code, http_status = "store_unavailable", 503
    retry_after = 5


class StoreMismatch(Wan2I2VError):
    code = "store_mismatch"


class DeviceBusy(Wan2I2VError):
    code, http_status = "device_busy", 503


class WorkerDied(Wan2I2VError):
    code, http_status = "worker_died", 500

    def __init__(self, exit_status: int | None, doing: str) -> None:
        self.exit_status = exit_status
        super().__init__(f"the worker process {describe_exit(exit_status)} while {doing}.")

    def to_dict(self) -> dict[str, object]:
        return super().to_dict() | {"exit_status": self.exit_status}


class SetAside(Wan2I2VError):
    code, http_status = "set_aside", 500


def describe_exit(status: int | None) -> str:
    """How a process ended, from `multiprocessing`'s exit code: a negative one is the number of a signal."""
    if status is None:
        return "stopped answering"
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (most often the system's out-of-memory killer)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}, exit code {status},"
