"""A real S3 server (moto) on loopback, as the second place for a cluster's artifacts."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer


# One for all: fsspec keeps file systems, and with them the server that they were made for.
@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment in which `s3://clips` is a bucket of it."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL_S3"], **keys).create_bucket(Bucket="clips")
    yield variables
    server.stop()
