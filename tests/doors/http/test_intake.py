"""Submissions of a crowd: taken many at a time, each answered by itself, and as the route would have answered it."""

from __future__ import annotations

import asyncio
import json

import pytest

from requests_http import SETTINGS, png
from wan2_i2v.doors.http.intake import Intake
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.jobs.errors import JobConflict, StoreUnavailable
from wan2_i2v.jobs.service import Submission

BODY = {"settings": SETTINGS, "job_id": "a"}


@pytest.fixture
def kept(service, picture) -> str:
    return service.shelf.put(picture)


def together(service, submissions):
    """What becomes of submissions that arrive at the same moment."""

    async def go():
        intake = Intake(service)
        return await asyncio.gather(*(intake.submit(one) for one in submissions), return_exceptions=True)

    return asyncio.run(go())


def test_a_crowd_is_accepted_in_few_transactions(service, kept, monkeypatch):
    sizes = []
    write = service.store.submit_all

    def counted(jobs, *limits):
        sizes.append(len(jobs))
        return write(jobs, *limits)

    monkeypatch.setattr(service.store, "submit_all", counted)
    answers = together(service, [Submission(SETTINGS | {"seed": n}, kept, f"j{n}") for n in range(30)])
    assert sum(sizes) == 30 and len(sizes) <= 3
    assert [(job["id"], job["plan"]["seed"], new) for job, new in answers] == [(f"j{n}", n, True) for n in range(30)]
    assert [job["position"] for job, _ in answers] == list(range(30))
    assert {event.job_id for event in service.store.events(0)} == {f"j{n}" for n in range(30)}
    again = together(service, [Submission(SETTINGS | {"seed": n}, kept, f"j{n}") for n in range(30)])
    assert [(job["id"], new) for job, new in again] == [(f"j{n}", False) for n in range(30)]


def test_what_is_wrong_with_one_is_not_the_others_answer(service, kept, monkeypatch):
    plan = service._plan

    def broken(request, *more):
        if request.seed == 66:
            raise RuntimeError("nobody foresaw this")
        return plan(request, *more)

    monkeypatch.setattr(service, "_plan", broken)
    asked = {
        "good": SETTINGS,
        "wide": SETTINGS | {"width": -1},
        "../up": SETTINGS,
        "broken": SETTINGS | {"seed": 66},
        "last": SETTINGS,
    }
    answers = together(service, [Submission(fields, kept, name) for name, fields in asked.items()])
    kinds = [type(answer) if isinstance(answer, Exception) else answer[1] for answer in answers]
    assert kinds == [True, InvalidRequest, InvalidRequest, RuntimeError, True]
    assert sorted(job.id for job in service.store.page()) == ["good", "last"]
    assert [path.name for path in service.jobs.iterdir() if not path.name.startswith("queue.db")] == []


def test_of_two_under_one_id_the_second_waits_for_the_first(service, kept):
    same, other = Submission(SETTINGS, kept, "a"), Submission(SETTINGS | {"seed": 9}, kept, "a")
    answers = together(service, [same, same, other, Submission(SETTINGS, kept, "b")])
    assert [answer if isinstance(answer, Exception) else answer[1] for answer in answers[:2]] == [True, False]
    assert isinstance(answers[2], JobConflict)
    assert answers[3][1]
    assert {job.id for job in service.store.page()} == {"a", "b"}


def test_a_database_that_does_not_answer_is_every_ones_answer_and_no_end(service, kept, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(service.store, "submit_all", lambda *args: (_ for _ in ()).throw(StoreUnavailable("busy")))
        answers = together(service, [Submission(SETTINGS, kept, name) for name in "ab"])
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert [new for _, new in together(service, [Submission(SETTINGS, kept, name) for name in "ab"])] == [True, True]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"priority": 3},
        {"priority": "high"},
        {"picture": "no id"},
        {"picture": "0" * 64},
        {"settings": SETTINGS | {"width": "wide"}},
        {"settings": SETTINGS | {"image": "/etc/passwd"}},
        {"settings": SETTINGS | {"num_frames": 0}},
        {"webhook": "file:///etc/passwd"},
        {"unknown": 1},
        {"job_id": "../a"},
    ],
)
def test_it_is_answered_as_by_its_route(client, kept, more):
    """A Content-Type with a parameter is left to FastAPI, though it is no less in order."""
    body = json.dumps({"picture": kept} | BODY | more)
    routed = client.post("/api/jobs", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    direct = client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert routed.status_code == (201 if more in ({}, {"priority": 3}) else routed.status_code)
    assert direct.status_code == (200 if routed.status_code == 201 else routed.status_code)
    assert direct.json() == routed.json()
    assert direct.headers.get("location") == routed.headers.get("location")
    assert direct.headers["content-type"] == routed.headers["content-type"] == "application/json"
    kinds = {"x-content-type-options", "content-security-policy", "cache-control"}
    assert kinds <= set(direct.headers.keys())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"picture": 1e999}'])
def test_what_is_no_submission_is_left_to_the_route(client, body):
    answers = [
        client.post("/api/jobs", content=body, headers={"Content-Type": kind})
        for kind in ("application/json", "application/json; charset=utf-8")
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_body_that_is_nested_too_deeply_is_left_to_the_route(client, kind):
    answer = client.post("/api/jobs", content=b"[" * 100_000, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_a_picture_that_has_to_be_read_keeps_nobody_waiting(service, kept, picture):
    assert service.is_quick(Submission(SETTINGS, kept))
    assert not service.is_quick(Submission(SETTINGS, picture))
    assert not service.is_quick(Submission(SETTINGS, kept, last_picture="0" * 64))
    other = service.shelf.put(png(40, 24))
    assert service.is_quick(Submission(SETTINGS, kept, last_picture=other))
