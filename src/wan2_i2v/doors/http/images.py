"""From what a request says of a picture to the picture's bytes: a URL, a data URI, base64 text or a name in `input/`.

Comes in: that text, or an uploaded file. Goes out: bytes within the limits, which are a picture that can be decoded.
No path from a request leaves `input/`. Blocking; call it from a thread. Imported by the routers.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from wan2_i2v.doors.http import urls
from wan2_i2v.doors.http.errors import TooLarge
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.errors import InvalidImage, nearest
from wan2_i2v.settings import Settings

ALLOWED = "an http(s) URL, a data URI, base64 or a file name in input/"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}:")
DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)
BASE64_FROM = 256
"""No file name is longer, and no picture shorter in base64 than the shortest PNG."""
NAME = re.compile(r"[^/\\\x00-\x1f]{1,255}")
OLD_FOLDERS = ("/content/ComfyUI/input/", "input/", "./input/")
"""How clients of the old container name the input folder."""


def from_text(value: str, settings: HttpSettings, field: str = "image") -> bytes:
    """The bytes that `value` stands for, not yet looked at.

    Raises InvalidImage, naming `field`, for what is none of the four; UrlRefused; TooLarge.
    """
    if DATA_URI.match(value[:256]):
        return within_limits(_data_uri(value, field), settings)
    if value[:8].lower().startswith(("http://", "https://")):
        return urls.fetch(value, guard(settings))
    if len(value) < BASE64_FROM and SCHEME.match(value):
        raise InvalidImage(field, value, ALLOWED, "Other kinds of URL are not fetched.")
    found = _in_input(value, field) if len(value) < BASE64_FROM else None
    return within_limits(_base64(value, field) if found is None else _read(found, settings, field), settings)


def guard(settings: HttpSettings) -> urls.Guard:
    return urls.Guard(settings.max_upload_bytes, settings.fetch_seconds, settings.max_redirects, settings.trusted)


def within_limits(data: bytes, settings: HttpSettings) -> bytes:
    """`data`, unless it has more bytes than a picture may have. Raises TooLarge."""
    if len(data) > settings.max_upload_bytes:
        raise TooLarge(f"the picture has {len(data)} bytes; the limit is {settings.max_upload_bytes}.")
    return data


def _data_uri(value: str, field: str) -> bytes:
    head, _, payload = value.partition(",")
    if head.lower().endswith(";base64"):
        return _base64(payload, field)
    return unquote_to_bytes(payload)


def _base64(text: str, field: str) -> bytes:
    """Standard and URL-safe alphabet, with or without padding and line breaks."""
    compact = re.sub(r"\s+", "", text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidImage(field, text, ALLOWED, "This is none of them.") from None
    if not data:
        raise InvalidImage(field, text, ALLOWED, "There are no bytes in it.")
    return data


def _in_input(value: str, field: str) -> Path | None:
    """The regular file of that name directly in `input/`; None when it is no such name and may be base64.

    Raises InvalidImage for a path, whether or not it exists: nothing outside is looked at.
    """
    name = value
    for old in OLD_FOLDERS:
        name = name.removeprefix(old)
    folder = Settings().input
    if not NAME.fullmatch(name) or name in (".", ".."):
        if _is_base64(value):
            return None
        raise InvalidImage(field, value, "a file name in input/, without folders", "Copy the picture there.")
    path = folder / name
    if not os.path.lexists(path):
        if "." not in name and len(name) > 64 and _is_base64(name):
            return None
        known = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        hint = nearest(name, known) if known else "There are no files in it."
        raise InvalidImage(field, value, ALLOWED, hint if hint.startswith(("Did", "There")) else "Check the name.")
    # A link inside may lead out; one that leads to another file of the folder is fine.
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidImage(field, value, "a regular file in input/", "This name leads somewhere else.")
    return path


def _is_base64(text: str) -> bool:
    """Whether a text can be a short picture in base64, and is no path from the root."""
    compact = re.sub(r"\s+", "", text)
    return re.fullmatch(r"[A-Za-z0-9+/_-]{64,}={0,2}", compact) is not None and not compact.startswith("/")


def _read(path: Path, settings: HttpSettings, field: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(settings.max_upload_bytes + 1)
    except OSError as error:
        raise InvalidImage(field, path.name, "a readable file in input/", f"{error.strerror}.") from error
