"""1,000 jobs from 32 clients in parallel, and how long a submission and /health take WHILE a job computes.

A real server (`wan2-i2v serve`, SQLite, `mini`) computes all the while. Each client has a connection of its own; they are in
a process of their own (crowd.py). Every job is submitted twice under its id, as by a client that lost the answer. /health is asked
by one more client, twenty times a second. With `--per-second` each client thinks between two jobs, so that all together submit so many;
else none ever pauses, and the figures are those of a server that is never idle.

Goes out, as the last line of stdout, one JSON object with percentiles in milliseconds. `late_ms` is how much later than it asked
for a process that only sleeps is woken meanwhile: what the machine adds to every answer, whatever the server does.
`server_cpu_ms` is the processor's time that the server took for each job, with all else that it did meanwhile.

    python benchmarks/load.py [--jobs 1000] [--clients 32] [--per-second N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from requests_http import png
from servers import LiveServer, serving, until

SETTINGS = {"prompt": "pan left", "num_frames": 5, "width": 64, "height": 64, "num_inference_steps": 2}
HEALTH_PAUSE = 0.05
SLEEP = 0.01


class Beside:
    """Measures in a thread of its own while the block runs; what it measured is in `seconds`."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError


class Health(Beside):
    """Asks /health in a thread of its own; `seconds` holds what each answer took while a job was computing."""

    def __init__(self, server: LiveServer) -> None:
        super().__init__()
        self._server = server
        self.idle = 0

    def _run(self) -> None:
        with httpx2.Client(base_url=self._server.url, timeout=60, trust_env=False) as client:
            while not self._ending.wait(HEALTH_PAUSE):
                begin = time.perf_counter()
                answer = client.get("/health")
                taken = time.perf_counter() - begin
                if answer.json()["jobs"]["inProgress"]:
                    self.seconds.append(taken)
                else:
                    self.idle += 1


class Sleeper(Beside):
    """How much later than asked for a thread of this process wakes up."""

    def _run(self) -> None:
        while not self._ending.is_set():
            begin = time.perf_counter()
            time.sleep(SLEEP)
            self.seconds.append(time.perf_counter() - begin - SLEEP)


class Crowd:
    """`clients` of them, ready to submit `jobs` jobs, `per_second` in all, or one after the other."""

    def __init__(self, server: LiveServer, picture: str, jobs: int, clients: int, per_second: float) -> None:
        order = {
            "host": urlsplit(server.url).hostname,
            "port": urlsplit(server.url).port,
            "picture": picture,
            "settings": SETTINGS,
            "name": "job",
            "pause": clients / per_second if per_second else 0,
            "shares": [list(range(client, jobs, clients)) for client in range(clients)],
        }
        command = [sys.executable, str(Path(__file__).with_name("crowd.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._say(json.dumps(order))
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def submit(self) -> tuple[list[float], Counter[int]]:
        """Seconds of each job's first submission, and how often each status was answered."""
        self._say("go")
        told = json.loads(self._process.communicate()[0])
        return told["seconds"], Counter({int(status): count for status, count in told["statuses"].items()})

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds, with the number of measurements."""
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    found = {
        name: round(1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1) for name, part in at.items()
    }
    return found | {"count": len(ordered)}


LIMITS = {"WAN2_I2V_REQUESTS_PER_SECOND": "100000", "WAN2_I2V_BURST": "100000"}
"""A client may ask 50 times a second; here one address stands for all of them."""


def measure(server: LiveServer, jobs: int, clients: int, per_second: float) -> dict[str, Any]:
    """Submit `jobs` jobs, `per_second` of them in all, while four long ones are computed."""
    picture = server.upload(png(64, 64))
    for number in range(4):
        settings = SETTINGS | {"num_inference_steps": 200, "seed": number}
        server.submit(picture, settings, f"computes-{number}", priority=9).raise_for_status()
    until(lambda: (server.job("computes-0")["stage"] or "").startswith("denoise"))
    crowd = Crowd(server, picture, jobs, clients, per_second)
    process = psutil.Process(server.process.pid)
    before, begin, computed = os.getloadavg()[0], time.monotonic(), sum(process.cpu_times()[:2])
    with Health(server) as health, Sleeper() as sleeper:
        taken, statuses = crowd.submit()
    seconds, computed = time.monotonic() - begin, sum(process.cpu_times()[:2]) - computed
    known = Counter(job["id"] for job in server.all_jobs() if job["id"].startswith("job-"))
    return {
        "jobs": jobs,
        "clients": clients,
        "accepted": statuses[201],
        "answered_again": statuses[200],
        "other_answers": {str(status): count for status, count in statuses.items() if status not in (200, 201)},
        "stored_once": sum(count == 1 for count in known.values()),
        "submit_ms": percentiles(taken),
        "health_ms": percentiles(health.seconds),
        "health_while_idle": health.idle,
        "late_ms": percentiles(sleeper.seconds),
        "server_cpu_ms": round(1000 * computed / jobs, 1),
        "asked_per_second": per_second,
        "jobs_per_second": round(jobs / seconds, 1),
        "load_before": round(before, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument(
        "--per-second",
        type=float,
        default=0.0,
        help="submissions per second, of all clients together; 0: as fast as they are answered",
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as folder,
        serving(Path(folder), args.model, **LIMITS) as server,
    ):
        result = measure(server, args.jobs, args.clients, args.per_second)
    result |= {"date": date.today().isoformat(), "cores": os.cpu_count(), "load_after": round(os.getloadavg()[0], 1)}
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    raise SystemExit(result["accepted"] != args.jobs or result["stored_once"] != args.jobs)


if __name__ == "__main__":
    main()
