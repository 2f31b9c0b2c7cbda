"""200 open event streams whose clients come and go, for ten minutes, while jobs are computed one after the other.

A real server (`wan2-i2v serve`, SQLite, `mini`). Every second a few clients leave in the middle of a stream and as many come,
half of them asking for what they missed. Jobs are submitted so that one is always being computed. Measured: the server's
resident memory minute by minute (after a warm-up), and what a job takes with the streams open against without. The last line
of stdout is one JSON object.

    python benchmarks/streams.py [--streams 200] [--seconds 600] [--warm-up 60] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from requests_http import png
from servers import LiveServer, serving

SETTINGS = {"prompt": "pan left", "num_frames": 5, "width": 64, "height": 64, "num_inference_steps": 2}
MIB = 2**20


@dataclass
class Crowd:
    """Clients of /api/events on sockets of their own. `events`, `missed` and `refused` count over all of them."""

    port: int
    streams: int
    leaving: int
    events: int = 0
    opened: int = 0
    refused: int = 0
    disordered: int = 0
    open_now: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self, ending: threading.Event) -> None:
        dice = random.Random(0)
        while not ending.is_set():
            for task in dice.sample(self.open_now, min(self.leaving, len(self.open_now))):
                task.cancel()
            await asyncio.sleep(0)
            self.open_now = [task for task in self.open_now if not task.done()]
            while len(self.open_now) < self.streams:
                self.open_now.append(asyncio.create_task(self._client(dice.random() < 0.5)))
                self.opened += 1
            await asyncio.sleep(1)
        for task in self.open_now:
            task.cancel()
        await asyncio.gather(*self.open_now, return_exceptions=True)

    async def _client(self, resumes: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            query = "?last=1" if resumes else ""
            writer.write(f"GET /api/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            if b"200" not in await reader.readline():
                self.refused += 1
                return
            last = 0
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    self.events += 1
                    self.disordered += int(line[4:]) < last
                    last = int(line[4:])
        except ConnectionError:
            self.refused += 1
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def one_job(server: LiveServer, picture: str, name: str, seed: int) -> float:
    """Seconds from submission to the end of one job."""
    begin = time.monotonic()
    server.submit(picture, SETTINGS | {"seed": seed}, name).raise_for_status()
    job = server.ended(name)
    assert job["state"] == "done", job
    return time.monotonic() - begin


def watch(server: LiveServer, picture: str, seconds: float, every: float) -> tuple[list[float], list[float], float]:
    """Compute jobs for so long: seconds of each job, the server's resident memory in MiB, and the longest silence of jobs."""
    process = psutil.Process(server.process.pid)
    taken: list[float] = []
    memory: list[float] = []
    begin = sampled = time.monotonic()
    while time.monotonic() - begin < seconds:
        taken.append(one_job(server, picture, f"job-{len(taken)}-{int(begin)}", len(taken)))
        if time.monotonic() - sampled >= every or not memory:
            sampled = time.monotonic()
            memory.append(round(process.memory_info().rss / MIB, 1))
    return taken, memory, max(taken)


LIMITS = {"WAN2_I2V_REQUESTS_PER_SECOND": "100000", "WAN2_I2V_BURST": "100000"}
"""All clients have one address here."""


def measure(server: LiveServer, streams: int, seconds: float, warm_up: float) -> dict[str, Any]:
    """The whole measurement on a server of one's own."""
    crowd, ending = Crowd(int(server.port), streams, max(1, streams // 20)), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(crowd.run(ending)), daemon=True)
    picture = server.upload(png(64, 64))
    one_job(server, picture, "first", 0)
    alone, _, _ = watch(server, picture, min(30.0, warm_up), warm_up)
    thread.start()
    try:
        watch(server, picture, warm_up, warm_up)
        taken, memory, longest = watch(server, picture, seconds, min(60.0, seconds / 4))
        metrics = server.client.get("/metrics").text
    finally:
        ending.set()
        thread.join()
    open_streams = next(line for line in metrics.splitlines() if line.startswith("wan2_i2v_event_streams "))
    return {
        "streams": streams,
        "open_at_end": int(float(open_streams.split()[1])),
        "opened": crowd.opened,
        "refused": crowd.refused,
        "events_received": crowd.events,
        "events_out_of_order": crowd.disordered,
        "seconds": seconds,
        "rss_mib": memory,
        "rss_growth": round(memory[-1] / memory[0] - 1, 4),
        "rss_spread": round(max(memory) / min(memory) - 1, 4),
        "jobs": len(taken),
        "job_s_without_streams": round(statistics.median(alone), 2),
        "job_s_with_streams": round(statistics.median(taken), 2),
        "longest_job_s": round(longest, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--warm-up", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="streams-", ignore_cleanup_errors=True) as folder,
        serving(Path(folder), args.model, **LIMITS) as server,
    ):
        result = measure(server, args.streams, args.seconds, args.warm_up)
    result |= {"date": date.today().isoformat(), "cores": os.cpu_count(), "load_at_end": round(os.getloadavg()[0], 1)}
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    raise SystemExit(abs(result["rss_growth"]) > 0.05 or result["refused"] > 0 or result["events_out_of_order"] > 0)


if __name__ == "__main__":
    main()
