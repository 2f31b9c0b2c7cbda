"""Webhooks: sent when a job ends, signed, tried again, remembered over a restart, and never to private addresses."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest
from local_server import peer
from starlette.testclient import TestClient

from requests_http import SETTINGS
from wan2_i2v.doors.http.app import create_app
from wan2_i2v.doors.http.door import Door
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.doors.http.webhooks import ATTEMPTS, Sender
from wan2_i2v.jobs import outbox
from wan2_i2v.jobs.service import Submission


@pytest.fixture
def other():
    with peer() as told:
        yield told


@pytest.fixture
def door_of(service, other):
    def make(**settings: object) -> Door:
        given = {"trusted_hosts": f"127.0.0.1:{other.port}"} | settings
        return create_app(service, HttpSettings(**given)).state.door

    return make


def cancelled(service, picture, url: str, job_id: str = "a") -> None:
    service.submit(Submission(SETTINGS, picture, job_id, {"webhook": url}))
    service.store.cancel(job_id)


def deliver(door: Door, retry_seconds: float = 0.0) -> None:
    """What the sender's thread does in one turn."""
    for delivery in outbox.due(door.service.store, time.time() + 1):
        Sender(door, retry_seconds)._deliver(delivery)


def test_a_job_that_ended_is_told_once_and_signed(service, picture, other, door_of):
    other.answers = {"/hook": (200, {}, b"")}
    cancelled(service, picture, f"{other.url}/hook")
    for _ in range(2):
        deliver(door_of(webhook_secret="key"))
    ((method, path, headers, body),) = other.asked
    assert (method, path, headers["Content-Type"]) == ("POST", "/hook", "application/json")
    job = json.loads(body)
    assert (job["id"], job["state"]) == ("a", "cancelled")
    signed = headers["X-Wan2-I2V-Timestamp"].encode() + b"." + body
    assert headers["X-Wan2-I2V-Signature"] == "sha256=" + hmac.new(b"key", signed, hashlib.sha256).hexdigest()


def test_nothing_is_signed_without_a_secret_or_sent_before_the_end(service, picture, other, door_of):
    other.answers = {"/hook": (200, {}, b"")}
    service.submit(Submission(SETTINGS, picture, "a", {"webhook": f"{other.url}/hook"}))
    deliver(door_of())
    assert other.asked == []
    service.store.cancel("a")
    deliver(door_of())
    assert not [name for name in other.asked[0][2] if name.lower().startswith("x-wan2")]


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
def test_anything_but_200_is_tried_three_times(service, picture, other, door_of, status):
    other.answers = {"/hook": (status, {"Location": f"{other.url}/else"}, b"")}
    cancelled(service, picture, f"{other.url}/hook")
    for _ in range(ATTEMPTS + 2):
        deliver(door_of())
    assert [path for _, path, _, _ in other.asked] == ["/hook"] * ATTEMPTS


def test_a_retry_waits_its_ten_seconds(service, picture, other, door_of):
    cancelled(service, picture, f"{other.url}/hook")
    for _ in range(2):
        deliver(door_of(), retry_seconds=10.0)
    assert len(other.asked) == 1
    (waiting,) = outbox.due(service.store, time.time() + 11)
    assert waiting.attempts == 1


def test_a_server_that_starts_sends_what_the_last_one_could_not(service, picture, other):
    cancelled(service, picture, f"{other.url}/hook")
    other.answers = {"/hook": (200, {}, b"")}
    app = create_app(service, HttpSettings(trusted_hosts="127.0.0.1"))
    with TestClient(app, base_url="http://127.0.0.1"):
        deadline = time.monotonic() + 60
        while outbox.due(service.store, time.time() + 60) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(other.asked) == 1


def test_private_addresses_are_not_told(service, picture, other, door_of, caplog):
    cancelled(service, picture, f"{other.url}/hook")
    for _ in range(ATTEMPTS):
        deliver(door_of(trusted_hosts=""))
    assert other.asked == []
    assert "not a public address" in caplog.text
    assert outbox.due(service.store, time.time() + 60) == []


def test_a_forgotten_job_is_not_told(service, picture, other, door_of):
    cancelled(service, picture, f"{other.url}/hook")
    service.store.forget("a")
    deliver(door_of())
    assert other.asked == []
    assert outbox.due(service.store, time.time() + 60) == []


def test_a_retried_job_is_told_again(service, picture, other, door_of):
    other.answers = {"/hook": (200, {}, b"")}
    service.submit(Submission(SETTINGS, picture, "a", {"webhook": f"{other.url}/hook"}))
    for move in ("expire", "retry", "cancel"):
        if move == "expire":
            service.store._change("a", "expire", worker=None, token=None, lease_until=None)
        else:
            getattr(service.store, move)("a")
    deliver(door_of())
    assert [json.loads(body)["state"] for *_, body in other.asked] == ["cancelled", "cancelled"]


def test_a_malformed_webhook_is_refused_with_the_job(client, picture):
    kept = client.post("/api/pictures", content=picture).json()["picture"]
    for url in ("ftp://a/", "nothing", "http://user:word@a/"):
        answer = client.post("/api/jobs", json={"picture": kept, "settings": SETTINGS, "webhook": url})
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "webhook")
