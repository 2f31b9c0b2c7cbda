"""The websocket of a ComfyUI server, made again whenever it breaks. Imported by the ComfyUI stage.

Comes in: the server's address and the id under which graphs are submitted. Goes out: `Message`s. Nothing depends on one
of them arriving: how a graph ends is asked over HTTP.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

RETRY_SECONDS = 1.0
OPEN_SECONDS = 10.0
MOST_BYTES = 64 * 2**20
"""Of one message: a preview picture is the largest."""
PREVIEW, PREVIEW_WITH_METADATA = 1, 4
"""Kinds of binary messages: four bytes, big-endian, at their beginning."""
FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


@dataclass(frozen=True)
class Message:
    """What the server said: JSON of a kind, or a preview picture, whose `prompt_id` newer servers tell."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    picture: bytes = b""

    @property
    def prompt_id(self) -> str:
        return str(self.data.get("prompt_id", ""))


class Line:
    """One websocket. Close it with `close`."""

    def __init__(self, url: str, client_id: str) -> None:
        self._url = f"{url.rstrip('/').replace('http', 'ws', 1)}/ws?clientId={client_id}"
        self._socket: ClientConnection | None = None
        self._open = contextlib.ExitStack()
        self._retry_at = 0.0

    def close(self) -> None:
        self._socket = None
        self._open.close()

    def open(self) -> bool:
        """Connect unless it is connected; whether it is."""
        if self._socket is None and time.monotonic() >= self._retry_at:
            try:
                connection = connect(self._url, open_timeout=OPEN_SECONDS, max_size=MOST_BYTES, proxy=None)
                self._socket = self._open.enter_context(connection)
                self._socket.send(FLAGS)
            except (OSError, WebSocketException):
                # TimeoutError is an OSError. The caller asks over HTTP meanwhile, where a server that is gone shows.
                self._lose()
        return self._socket is not None

    def next(self, timeout: float) -> Message | None:
        """The next message, None when there was none within `timeout` seconds or it was of no use."""
        if not self.open():
            time.sleep(timeout)
            return None
        assert self._socket is not None
        try:
            return parse(self._socket.recv(timeout))
        except TimeoutError:
            return None
        except (OSError, WebSocketException):
            self._lose()
            return None

    def _lose(self) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self.close()


def parse(raw: str | bytes) -> Message | None:
    """A message of the server; None for one of a kind that is not known."""
    if isinstance(raw, bytes):
        return _binary(raw)
    try:
        told = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("data"), dict):
        return None
    return Message(str(told.get("type")), told["data"])


def _binary(raw: bytes) -> Message | None:
    """A preview: its picture after four bytes of format, or after JSON of a length that four bytes tell."""
    if len(raw) < 8:
        return None
    kind, number = struct.unpack(">II", raw[:8])
    if kind == PREVIEW:
        return Message("preview", picture=raw[8:])
    if kind != PREVIEW_WITH_METADATA:
        return None
    try:
        about = json.loads(raw[8 : 8 + number])
    except ValueError:
        return None
    return Message("preview", about if isinstance(about, dict) else {}, raw[8 + number :])


def as_png(picture: bytes) -> bytes | None:
    """A preview as PNG; None for bytes that are no picture."""
    try:
        with Image.open(io.BytesIO(picture)) as image:
            output = io.BytesIO()
            image.convert("RGB").save(output, format="PNG")
    except (OSError, SyntaxError):
        # Pillow's errors for what is no picture, or a part of one.
        return None
    return output.getvalue()
