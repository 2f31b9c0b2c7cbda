"""Speaks to a running service over its own API, for the command line. Nothing of a server is imported.

Comes in: the service's address. Goes out: jobs and records as JSON, events, files. Refusals of the service come back as
the package's own errors.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx2

from wan2_i2v.errors import Wan2I2VError, from_dict
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import replacing

TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
SILENCE_SECONDS = 40.0
"""The service says something on a stream every 15 seconds; a longer silence is a lost connection."""
RETRY_SECONDS = 1.0


class ServiceLost(Wan2I2VError):
    code = "service_lost"


class ServiceClient:
    """One service. Close it with `close`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        token = Settings().token.get_secret_value().partition(",")[0].strip()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Proxies from the environment are for the internet, not for this machine's own service.
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """The answer's JSON. Raises the service's own refusal, ServiceLost when it does not answer."""
        try:
            answer = self._http.request(method, path, **content)
        except httpx2.HTTPError as error:
            raise ServiceLost(f"the service at {self.url} does not answer ({error}).") from None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refusal(self.url, answer)

    def download(self, path: str, target: Path, *, overwrite: bool = True) -> None:
        """Put a file of the service at `target`, in one step.

        Raises as `ask`, OSError when it cannot be written, FileExistsError when it is there and `overwrite` is False.
        """
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refusal(self.url, answer)
                with replacing(target, overwrite=overwrite) as temporary, temporary.open("wb") as file:
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
        except httpx2.HTTPError as error:
            raise ServiceLost(f"the service at {self.url} does not answer ({error}).") from None

    def watch(self, events: SimpleQueue[tuple[str, dict[str, Any]]], ending: threading.Event) -> threading.Thread:
        """A thread that puts every event (kind, data) into `events` until `ending`; a lost connection is made again.

        Returns once the stream is open, so that nothing that is submitted afterwards is missed. Raises as `ask`.
        """
        opened: SimpleQueue[Exception | None] = SimpleQueue()

        def run() -> None:
            last: str | None = None
            first = True
            while not ending.is_set():
                try:
                    for identifier, kind, data in self._stream(last, opened if first else None):
                        first, last = False, identifier or last
                        if kind:
                            events.put((kind, data))
                        if ending.is_set():
                            return
                except (httpx2.HTTPError, Wan2I2VError) as error:
                    if first:
                        opened.put(error)
                        return
                ending.wait(RETRY_SECONDS)

        thread = threading.Thread(target=run, name="events", daemon=True)
        thread.start()
        problem = opened.get()
        if isinstance(problem, Wan2I2VError):
            raise problem
        if problem is not None:
            raise ServiceLost(f"the service at {self.url} does not answer ({problem}).")
        return thread

    def _stream(
        self, last: str | None, opened: SimpleQueue[Exception | None] | None
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        headers = {} if last is None else {"Last-Event-ID": last}
        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=10.0)
        with self._http.stream("GET", "/api/events", headers=headers, timeout=timeout) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(self.url, answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if opened is not None:
                    opened.put(None)
                    opened = None
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if "event" in fields:
                    yield fields.get("id", ""), fields["event"], json.loads(fields.get("data", "{}"))
                else:
                    yield "", "", {}
                fields = {}


def _refusal(url: str, answer: httpx2.Response) -> Wan2I2VError:
    try:
        told = dict(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return Wan2I2VError(f"{url} answered with status {answer.status_code}; is it a wan2-i2v service?")
    if answer.status_code == 401:
        told["message"] = f"{url}: {told.get('message')} Put it into WAN2_I2V_TOKEN."
    return from_dict(told)


def patiently(client: ServiceClient, seconds: float, method: str, path: str) -> Any:
    """`ask`, again and again while the service does not answer, as when it is being restarted."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return client.ask(method, path)
        except ServiceLost:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
