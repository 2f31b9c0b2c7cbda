"""What is answered while many others take long: FastAPI's own threads are 40, and pictures may come from slow servers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from local_server import peer

from requests_http import SETTINGS
from servers import until

CROWD = 60


def test_slow_pictures_keep_nobody_else_waiting(client_of, picture):
    with peer() as other, ThreadPoolExecutor(CROWD) as pool:
        # A second for each thousand bytes: longer than the test looks.
        other.answers, other.drip_seconds = {"/p": (200, {}, picture + bytes(8000))}, 1.0
        client = client_of(trusted_hosts=f"127.0.0.1:{other.port}", fetch_seconds=60)
        body = {"input": {"input_image": f"{other.url}/p", **SETTINGS}}
        submitted = [pool.submit(client.post, "/run", json=body) for _ in range(CROWD)]
        until(lambda: len(other.asked) >= 32)
        for path in ("/health", "/api/jobs", "/healthz"):
            assert client.get(path).status_code == 200
        assert not any(one.done() for one in submitted)
        other.drip_seconds = 0.0
        assert {one.result(60).status_code for one in submitted} == {200}
        assert client.get("/health").json()["jobs"]["inQueue"] == CROWD
