"""Put a finished video into an S3 bucket and say where it is. Needs the extra `s3` (boto3).

Comes in: credentials of a request (`s3Config`) or of the environment (`BUCKET_*`, as RunPod's workers name them), and a
file. Goes out: a presigned URL that is good for seven days. boto3 only signs; the bytes go through the guard of `urls`, so
that a client's endpoint cannot lead into the network behind the server. Imported by the RunPod doors.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from wan2_i2v.doors.http import urls
from wan2_i2v.doors.http.errors import UrlRefused
from wan2_i2v.errors import InvalidRequest, OutputError
from wan2_i2v.workspace import save_json

URL_SECONDS = 7 * 86_400
UPLOAD_SECONDS = 600.0
ATTEMPTS = 3
MAX_REPLY = 2**16
MARKER = "upload.json"


class BucketSettings(BaseSettings):
    """The server's own bucket, used by jobs that name none. `name` defaults to month and year, as RunPod's."""

    model_config = SettingsConfigDict(env_prefix="BUCKET_", frozen=True)

    endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: SecretStr = SecretStr("")
    name: str = ""


@dataclass(frozen=True)
class Bucket:
    """Where to and with which keys. `trusted`: the operator named it, so it may be on a private network."""

    endpoint: str
    key: str
    secret: SecretStr
    name: str
    trusted: bool = False


class Upload(BaseModel):
    """What became of an upload: a presigned URL, or why there is none."""

    url: str | None = None
    error: str | None = None


def chosen(asked: Mapping[str, Any] | None) -> Bucket | None:
    """The bucket of a request's `s3Config`, else the environment's, else None."""
    if asked is not None:
        return Bucket(asked["endpointUrl"], asked["accessId"], SecretStr(asked["accessSecret"]), asked["bucketName"])
    own = BucketSettings()
    if not (own.endpoint_url and own.access_key_id and own.secret_access_key.get_secret_value()):
        return None
    name = own.name or time.strftime("%m-%y")
    return Bucket(own.endpoint_url, own.access_key_id, own.secret_access_key, name, trusted=True)


def check(bucket: Bucket | None) -> None:
    """Refuse a bucket that cannot be used, before any work. Raises InvalidRequest, UrlRefused."""
    if bucket is not None:
        urls.check(bucket.endpoint)
        if importlib.util.find_spec("boto3") is None:
            raise InvalidRequest(
                "s3Config", bucket.endpoint, "nothing here", "The server needs: pip install wan2-i2v[s3]"
            )


def upload(bucket: Bucket, name: str, file: Path, content_type: str, guard: urls.Guard) -> str:
    """Store `file` under `name`; the presigned URL to fetch it.

    Raises UrlRefused for an endpoint that may not be used, OutputError when the bucket does not take the file.
    """
    client = _client(bucket)
    params = {"Bucket": bucket.name, "Key": name}
    target = client.generate_presigned_url("put_object", {**params, "ContentType": content_type}, URL_SECONDS)
    trusted = guard.trusted | ({urlsplit(target).netloc.lower()} if bucket.trusted else frozenset())
    limits = replace(guard, max_bytes=MAX_REPLY, seconds=UPLOAD_SECONDS, trusted=trusted)
    status = urls.send("PUT", target, file.read_bytes(), {"Content-Type": content_type}, limits)
    if status != 200:
        raise OutputError(f"the bucket {bucket.name!r} at {bucket.endpoint} answered with status {status}.")
    return str(client.generate_presigned_url("get_object", params, URL_SECONDS))


def uploaded(folder: Path) -> Upload | None:
    """What became of the upload of the job in `folder`; None while it is not over."""
    marker = folder / MARKER
    return Upload.model_validate_json(marker.read_bytes()) if marker.is_file() else None


def ensure(bucket: Bucket, folder: Path, file: Path, content_type: str, guard: urls.Guard) -> Upload:
    """Upload a job's video, once, whoever asks and however often; what became of it is kept in the job's folder."""
    with FileLock(folder / ".upload.lock"):
        known = uploaded(folder)
        if known is None:
            known = _tried(bucket, f"{folder.name}/{file.name}", file, content_type, guard)
            save_json(folder / MARKER, known)
        return known


def _tried(bucket: Bucket, name: str, file: Path, content_type: str, guard: urls.Guard) -> Upload:
    problem = ""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt)
        try:
            return Upload(url=upload(bucket, name, file, content_type, guard))
        except (UrlRefused, OutputError, OSError) as error:
            problem = str(error)
    return Upload(error=f"the upload failed {ATTEMPTS} times: {problem}")


def _client(bucket: Bucket) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.key,
        aws_secret_access_key=bucket.secret.get_secret_value(),
        region_name=region_of(bucket.endpoint),
        config=Config(signature_version="s3v4"),
    )


def region_of(endpoint: str) -> str:
    """The region in an endpoint's name (`….s3.<region>.…`, `<region>.digitaloceanspaces.com`), else us-east-1."""
    host = urlsplit(endpoint).hostname or ""
    if "s3." in host and host.partition("s3.")[2].count(".") >= 2:
        return host.partition("s3.")[2].partition(".")[0]
    if host.endswith(".digitaloceanspaces.com"):
        return host.removesuffix(".digitaloceanspaces.com").rpartition(".")[2]
    return "us-east-1"
