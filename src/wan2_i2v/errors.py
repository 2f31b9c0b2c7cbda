"""Every error that a user can meet: what was given, what is allowed, what to do next.

A leaf: imports nothing of the package; anyone may import it. Each class has a stable `code` (for JSON), an HTTP
status and a process exit code.

    Wan2I2VError                    error               500   exit 1
    ├── InvalidRequest              invalid_request     422   exit 2   a value that can never work
    │   ├── InvalidImage            invalid_image       422   exit 2
    │   └── InvalidJobList          invalid_job_list    422   exit 2
    ├── VerificationFailed          verification_failed 500   exit 3   the video exists, a check failed
    ├── CheckpointError             checkpoint_error    503   exit 4   weights missing, damaged or of another model
    ├── DoesNotFit                  does_not_fit        422   exit 5   the memory plan found no way
    ├── OutOfMemory                 out_of_memory       507   exit 6
    ├── OutputError                 output_error        507   exit 7   cannot write, disk full, file exists
    ├── JobNotFound                 job_not_found       404   exit 8
    ├── NumericalError              numerical_error     500   exit 9   NaN or infinity in latents or frames
    ├── DeviceError                 device_error        503   exit 10  the device asked for cannot be used
    ├── ComfyUIError                comfyui_error       502   exit 11  ComfyUI refused, failed, stopped or gave no file
    │   └── ComfyUILost             comfyui_lost        502   exit 11  it does not answer
    ├── ClusterError                cluster_error       503   exit 12  no Ray cluster answers, or it lost too many workers
    └── Cancelled                   cancelled           409   exit 130
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self


class Wan2I2VError(Exception):
    """Base of all errors raised on purpose by this package."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data, the shape that every door reports."""
        return {"code": self.code, "message": str(self)}


class InvalidRequest(Wan2I2VError):
    """A value that can never work. Names the field, the value given and what is allowed."""

    code, http_status, exit_code = "invalid_request", 422, 2

    def __init__(self, field: str, given: object, allowed: str, hint: str = "") -> None:
        self.field, self.given, self.allowed, self.hint = field, given, allowed, hint
        super().__init__(f"{field}: got {shorten(given)}; allowed: {allowed}." + (f" {hint}" if hint else ""))

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"field": self.field, "given": shorten(self.given), "allowed": self.allowed}

    def renamed(self, field: str) -> Self:
        """The same refusal of a value that the user knows by another name."""
        return type(self)(field, self.given, self.allowed, self.hint)


class InvalidImage(InvalidRequest):
    code = "invalid_image"


class InvalidJobList(InvalidRequest):
    code = "invalid_job_list"


class VerificationFailed(Wan2I2VError):
    code, http_status, exit_code = "verification_failed", 500, 3


class CheckpointError(Wan2I2VError):
    code, http_status, exit_code = "checkpoint_error", 503, 4


class DoesNotFit(Wan2I2VError):
    code, http_status, exit_code = "does_not_fit", 422, 5


class OutOfMemory(Wan2I2VError):
    code, http_status, exit_code = "out_of_memory", 507, 6


class OutputError(Wan2I2VError):
    code, http_status, exit_code = "output_error", 507, 7


class JobNotFound(Wan2I2VError):
    code, http_status, exit_code = "job_not_found", 404, 8


class NumericalError(Wan2I2VError):
    code, http_status, exit_code = "numerical_error", 500, 9


class DeviceError(Wan2I2VError):
    code, http_status, exit_code = "device_error", 503, 10


class ComfyUIError(Wan2I2VError):
    code, http_status, exit_code = "comfyui_error", 502, 11


class ComfyUILost(ComfyUIError):
    code = "comfyui_lost"


class ClusterError(Wan2I2VError):
    code, http_status, exit_code = "cluster_error", 503, 12


class Cancelled(Wan2I2VError):
    code, http_status, exit_code = "cancelled", 409, 130


def from_dict(data: Mapping[str, Any]) -> Wan2I2VError:
    """Undo `to_dict`: the error as an exception of its class again, with the same message and attributes."""
    cls = next((cls for cls in _tree(Wan2I2VError) if cls.code == data.get("code")), Wan2I2VError)
    error = cls.__new__(cls)
    error.args = (str(data.get("message", "")),)
    known = {name: value for name, value in data.items() if name not in ("code", "message")}
    error.__dict__.update(known | ({"given": _Shown(known["given"])} if "given" in known else {}))
    return error


class _Shown(str):
    """A value that `shorten` has put into words already, so that doing it again adds no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _tree(cls: type[Wan2I2VError]) -> Iterator[type[Wan2I2VError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _tree(below)


def shorten(value: object, limit: int = 80) -> str:
    """`repr` of a user's value, cut in the middle so that a message stays one readable line; None is nothing."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 30]} … {text[-25:]}"


MOST_NAMES = 40


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name closest to `name`, or lists them (the first few of many) when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or [
        each for each in names if name and each.startswith(name)
    ]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names[:MOST_NAMES])}{more}."


NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "insufficient memory",
    "failed to allocate",
    "_alloc_failed",
)
"""How torch's allocators, CUDA's libraries (CUBLAS_STATUS_ALLOC_FAILED), OpenCV and FFmpeg say it, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of whatever library says that memory ran out, on the card or in RAM."""
    if isinstance(error, (MemoryError, OutOfMemory)):
        return True
    if isinstance(error, Wan2I2VError):
        return False
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error).lower() for words in NO_MEMORY)


@contextlib.contextmanager
def writing(path: Path, instead: str) -> Iterator[None]:
    """What the operating system says against writing `path`, as an OutputError; `instead` is what to do."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}. {instead}") from error


def translate(error: BaseException, doing: str) -> Wan2I2VError:
    """Map an error of torch, PyAV or the operating system to ours. `doing` completes "while …".

    Errors of ours come back unchanged; anything unknown becomes a plain `Wan2I2VError` that keeps the original text.
    """
    if isinstance(error, Wan2I2VError):
        return error
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return OutOfMemory(f"out of memory while {doing} ({text}). Run the job again with `wan2-i2v resume`.")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or os.strerror(errno.ENOSPC) in str(error):
        # Libraries written in Rust say it in words only.
        return OutputError(f"disk full while {doing} ({text}). Free some space, then `wan2-i2v resume` the job.")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"not allowed to write while {doing} ({text}). Choose another --output folder.")
    if isinstance(error, NotADirectoryError):
        return OutputError(f"a file is where a folder is needed while {doing} ({text}). Choose another place.")
    return Wan2I2VError(f"failed while {doing} ({text})")
