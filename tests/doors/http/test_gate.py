"""What every request meets before any route: tokens, hosts, origins, rates, bodies and the headers of answers."""

from __future__ import annotations

import logging

import pytest

from wan2_i2v.doors.http.gate import CONTENT_SECURITY_POLICY

TOKEN = "correct horse"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", "Basic Zm9v", "Bearer \udcff"])
def test_a_wrong_token_is_refused(client_of, value, caplog):
    caplog.set_level(logging.DEBUG)
    client = client_of(token=TOKEN)
    headers = {"Authorization": value.encode("utf-8", "surrogateescape")} if value else {}
    answer = client.get("/openapi.json", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "unauthorized"
    assert TOKEN not in caplog.text + answer.text


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", TOKEN, "Bearer second"])
def test_each_right_token_is_taken(client_of, value):
    client = client_of(token=f"{TOKEN}, second")
    assert client.get("/openapi.json", headers={"Authorization": value}).status_code == 200


def test_every_answer_has_the_headers(client):
    for path in ("/openapi.json", "/nothing"):
        answer = client.get(path)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("192.168.1.9:8080", 200),
        ("box.local", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_without_a_token_foreign_names_are_not_served(client_of, host, status):
    client = client_of(allowed_hosts="box.local")
    assert client.get("/openapi.json", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"Origin": "http://127.0.0.1"}, 404),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(client, headers, status):
    assert client.post("/nothing", headers=headers).status_code == status
    assert client.get("/nothing", headers=headers).status_code == 404


def test_too_many_requests_wait(client_of):
    client = client_of(requests_per_second=0.01, burst=3)
    assert [client.get("/openapi.json").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    answer = client.get("/openapi.json")
    assert int(answer.headers["retry-after"]) > 1
    assert answer.json()["error"]["code"] == "too_many"


@pytest.mark.parametrize("length", [None, "7", "99999999999999999999", "-1", "x"])
def test_a_large_body_is_refused_whatever_it_says_of_its_length(client_of, length):
    client = client_of(max_body_bytes=1000)
    content = (b"x" * 600 for _ in range(3))
    headers = {} if length is None else {"Content-Length": length, "Transfer-Encoding": "chunked"}
    answer = client.post("/nothing", content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def test_bodies_share_one_budget(client_of):
    client = client_of(max_buffered_bytes=1000)
    assert client.post("/nothing", content=b"x" * 1001).status_code == 503
    for _ in range(3):
        assert client.post("/nothing", content=b"x" * 900).status_code == 404
