"""Tell clients' URLs that their jobs are over: signed, guarded like picture URLs, and sent after a restart too.

Comes in: the outbox in the job store. A POST that is not answered with 200 is tried twice more, 10 seconds apart, as
RunPod does. Runs as a thread of the server, beside the worker.

With a secret set, each request carries `X-Wan2-I2V-Timestamp` (seconds since 1970) and `X-Wan2-I2V-Signature`:
"sha256=" and the hexadecimal HMAC-SHA256 of "<timestamp>.<body>".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
from typing import Any

from wan2_i2v.doors.http import images, urls
from wan2_i2v.doors.http.door import Door
from wan2_i2v.doors.http.errors import UrlRefused
from wan2_i2v.errors import JobNotFound, Wan2I2VError
from wan2_i2v.jobs import outbox
from wan2_i2v.jobs.job import Delivery

log = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_SECONDS = 10.0
POLL_SECONDS = 0.5


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver computes to know that this server sent `body`."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Sender:
    """`start` begins to send, `stop` ends after the request on its way."""

    def __init__(self, door: Door, retry_seconds: float = RETRY_SECONDS) -> None:
        self._door, self._retry_seconds = door, retry_seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(POLL_SECONDS):
            try:
                for delivery in outbox.due(self._door.service.store, time.time()):
                    if not self._ending.is_set():
                        self._deliver(delivery)
            except Wan2I2VError as error:
                # The database does not answer: what is due stays due.
                log.warning("webhooks wait: %s", error)

    def _deliver(self, delivery: Delivery) -> None:
        store = self._door.service.store
        try:
            problem = self._send(delivery)
        except JobNotFound:
            # The job was forgotten before its webhook could be sent.
            problem = ""
        if not problem:
            outbox.settled(store, delivery)
        elif delivery.attempts + 1 >= ATTEMPTS:
            log.warning("webhook of %s given up after %s attempts: %s", delivery.job_id, ATTEMPTS, problem)
            outbox.settled(store, delivery)
        else:
            outbox.postponed(store, delivery, time.time() + self._retry_seconds)

    def _send(self, delivery: Delivery) -> str:
        """Why the URL did not take it; empty when it did. Raises JobNotFound."""
        job = self._door.service.store.get(delivery.job_id)
        tell = self._door.tellings.get(str(job.options.get("door", ""))) or self._door.tellings[""]
        body = json.dumps(tell(self._door, job)).encode()
        try:
            status = urls.post(delivery.url, body, self._headers(body), images.guard(self._door.settings))
        except UrlRefused as error:
            return str(error)
        return "" if status == 200 else f"answered with status {status}"

    def _headers(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        secret = self._door.settings.webhook_secret.get_secret_value()
        if secret:
            timestamp = str(int(time.time()))
            headers |= {
                "X-Wan2-I2V-Timestamp": timestamp,
                "X-Wan2-I2V-Signature": signature(secret, timestamp, body),
            }
        return headers
