"""Results in an S3 bucket: a real S3 server (moto) on loopback, filled by the HTTP door."""

from __future__ import annotations

import time

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from serving import bearer
from wan2_i2v.doors.http import bucket
from wan2_i2v.doors.http.errors import UrlRefused
from wan2_i2v.doors.http.urls import Guard
from wan2_i2v.errors import InvalidRequest, OutputError

FIELDS = {"prompt": "pan left", "length": 5, "fps": 16, "size": "64*64", "steps": 2, "seed": 3}
SECRET = "very-secret"


@pytest.fixture(scope="module")
def s3():
    """The `s3Config` of a bucket that exists."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    config = {"accessId": "k", "accessSecret": SECRET, "bucketName": "videos", "endpointUrl": f"http://{host}:{port}"}
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=config["endpointUrl"], **keys).create_bucket(Bucket="videos")
    yield config
    server.stop()


def guard(*trusted):
    return Guard(2**20, 30, 0, frozenset(trusted))


def test_a_result_goes_into_the_requests_bucket(served, photo_uri, s3):
    body = {"input": FIELDS | {"image": photo_uri, "job_id": "in-a-bucket"}, "s3Config": s3}
    requests.post(f"{served.url}/v2/wan/run", headers=bearer(), json=body, timeout=30)
    served.until_over("in-a-bucket")
    # Nobody asks for it, and it is uploaded.
    deadline = time.monotonic() + 60
    while bucket.uploaded(served.service.folder("in-a-bucket")) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    answer = requests.post(f"{served.url}/v2/wan/runsync", headers=bearer(), json=body, params={"wait": 300_000})
    reply = answer.json()
    assert reply["status"] == "COMPLETED", reply
    url = reply["output"]["video_url"]
    assert url.startswith(f"{s3['endpointUrl']}/videos/in-a-bucket/in-a-bucket.mp4?")
    assert "X-Amz-Expires=604800" in url
    assert requests.get(url, timeout=30).content == (served.service.output / "in-a-bucket.mp4").read_bytes()
    assert SECRET not in answer.text
    # Uploaded once; whoever asks again gets the same URL.
    assert requests.get(f"{served.url}/status/in-a-bucket", headers=bearer()).json()["output"]["video_url"] == url


def test_a_bucket_on_a_private_network_is_the_operators_to_name(tmp_path, s3, monkeypatch):
    video = tmp_path / "v.mp4"
    video.write_bytes(b"film" * 1000)
    asked = bucket.chosen(s3)
    with pytest.raises(UrlRefused, match="not a public address"):
        bucket.upload(asked, "j/v.mp4", video, "video/mp4", guard())
    for name, value in (("ENDPOINT_URL", "endpointUrl"), ("ACCESS_KEY_ID", "accessId"), ("NAME", "bucketName")):
        monkeypatch.setenv(f"BUCKET_{name}", s3[value])
    assert bucket.chosen(None) is None
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", SECRET)
    own = bucket.chosen(None)
    assert own.trusted and SECRET not in repr(own)
    url = bucket.upload(own, "j/v.mp4", video, "video/mp4", guard())
    got = requests.get(url, timeout=30)
    assert (got.content, got.headers["content-type"]) == (video.read_bytes(), "video/mp4")
    monkeypatch.delenv("BUCKET_NAME")
    assert bucket.chosen(None).name == time.strftime("%m-%y")


def test_an_upload_that_fails_is_told_and_the_video_stays(tmp_path, s3, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    video = tmp_path / "v.mp4"
    video.write_bytes(b"film")
    lost = bucket.Bucket(s3["endpointUrl"], "k", SecretStr("s"), "no-such-bucket", trusted=True)
    with pytest.raises(OutputError, match="status 404"):
        bucket.upload(lost, "j/v.mp4", video, "video/mp4", guard())
    result = bucket.ensure(lost, tmp_path, video, "video/mp4", guard())
    assert result.url is None and "failed 3 times" in result.error
    assert bucket.uploaded(tmp_path) == result == bucket.ensure(lost, tmp_path, video, "video/mp4", guard())


def test_what_is_refused_before_any_work(monkeypatch):
    for endpoint in ("ftp://h", "http://user:pass@h", "nonsense"):
        with pytest.raises(UrlRefused):
            bucket.check(bucket.Bucket(endpoint, "k", SecretStr("s"), "b"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match="pip install"):
        bucket.check(bucket.Bucket("https://s3.example.com", "k", SecretStr("s"), "b"))


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3.amazonaws.com", "us-east-1"),
        ("https://b.s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://fra1.digitaloceanspaces.com", "fra1"),
        ("http://127.0.0.1:9000", "us-east-1"),
    ],
)
def test_regions(endpoint, region):
    assert bucket.region_of(endpoint) == region
