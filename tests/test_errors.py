"""The exception tree as its docstring draws it, and foreign errors in this package's words."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator

import pytest

from wan2_i2v import errors
from wan2_i2v.errors import InvalidImage, InvalidRequest, OutOfMemory, OutputError, Wan2I2VError, nearest, translate


def tree(cls: type[Wan2I2VError] = Wan2I2VError) -> Iterator[type[Wan2I2VError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from tree(below)


OURS = [cls for cls in tree() if cls.__module__ == "wan2_i2v.errors"]


def test_the_docstring_draws_the_real_tree():
    drawn = re.findall(r"(\w+) +(\w+) +(\d{3}) +exit (\d+)", errors.__doc__ or "")
    real = [(cls.__name__, cls.code, str(cls.http_status), str(cls.exit_code)) for cls in OURS]
    assert sorted(drawn) == sorted(real)


def test_codes_are_unique_and_no_failure_looks_like_success():
    assert len({cls.code for cls in OURS}) == len(OURS)
    assert all(cls.exit_code > 0 and cls.http_status >= 400 for cls in OURS)


@pytest.mark.parametrize(
    "error",
    [
        InvalidImage("image", "a.png", "a picture", "Try b."),
        InvalidRequest("seed", "x" * 500, "a number"),
        OutputError("disk full"),
        Wan2I2VError("x"),
    ],
)
def test_errors_survive_json(error):
    back = errors.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.to_dict() == error.to_dict()


def test_an_unknown_code_is_still_an_error_of_ours():
    assert type(errors.from_dict({"code": "from_the_future", "message": "m"})) is Wan2I2VError


def test_invalid_request_says_given_allowed_and_next():
    error = InvalidRequest("width", 0, "16 to 4096", "Leave it out.")
    assert str(error) == "width: got 0; allowed: 16 to 4096. Leave it out."
    assert error.to_dict() == {
        "code": "invalid_request", "message": str(error), "field": "width", "given": "0", "allowed": "16 to 4096"
    }  # fmt: skip


def test_long_values_are_cut_in_the_middle():
    text = errors.shorten("a" * 1000 + "the end")
    assert len(text) < 100 and text.startswith("'aaa") and text.endswith("the end'")
    assert errors.shorten("short") == "'short'"


def test_nearest():
    assert nearest("promt", ["prompt", "seed"]) == "Did you mean 'prompt'?"
    assert nearest("zzz", ["b", "a"]) == "Known: a, b."


@pytest.mark.parametrize(
    ("foreign", "expected", "says"),
    [
        (MemoryError(), OutOfMemory, "resume"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), OutOfMemory, "Tried to allocate"),
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, "disk full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), OutputError, "disk full"),
        (PermissionError(errno.EACCES, "Permission denied"), OutputError, "--output"),
        (OSError(errno.EROFS, "Read-only file system"), OutputError, "not allowed"),
        (ValueError("odd"), Wan2I2VError, "ValueError: odd"),
    ],
)
def test_translate(foreign, expected, says):
    error = translate(foreign, "decoding")
    assert type(error) is expected
    assert says in str(error) and "while decoding" in str(error)


def test_translate_leaves_ours_alone():
    error = OutputError("mine")
    assert translate(error, "x") is error
