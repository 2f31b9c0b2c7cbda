"""kill -9 of the worker, the server, or both, at random instants, while clients keep jobs in flight.

Comes in: how many kills. A real server (`wan2-i2v serve`, SQLite, `mini`) computes; a client keeps ten jobs unfinished and
repeats a submission under its own id until it is answered, as a client does. Goes out, as the last line of stdout, one JSON
object: jobs lost, jobs done twice, videos that differ from those of an undisturbed run, files that were visible but not whole.

    python benchmarks/chaos.py [--kills 200] [--in-flight 10] [--longest-gap SECONDS] [--seed 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from requests_http import png
from servers import OVER, LiveServer, until

SETTINGS = {"prompt": "pan left", "num_frames": 5, "width": 64, "height": 64, "num_inference_steps": 3}
VICTIMS = ("worker", "server", "both")
CLIENT_PAUSE = 0.3
UNREACHABLE = (httpx2.HTTPError, ConnectionError)


@dataclass
class Client:
    """Keeps `in_flight` jobs unfinished, in a thread of its own. Job `n` has the seed n modulo the number in flight."""

    server: LiveServer
    in_flight: int
    submitted: int = 0
    acknowledged: set[str] = field(default_factory=set)
    retried: int = 0
    refusals: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ending.wait(CLIENT_PAUSE):
            with contextlib.suppress(*UNREACHABLE):
                self._turn()

    def _turn(self) -> None:
        with httpx2.Client(base_url=self.server.url, timeout=30, trust_env=False) as client:
            picture = client.post("/api/pictures", content=png(64, 64)).json()["picture"]
            waiting = self._unfinished(client)
            for _ in range(self.in_flight - waiting):
                self._submit(client, picture, self.submitted)
                self.submitted += 1

    def _submit(self, client: httpx2.Client, picture: str, number: int) -> None:
        """Until it is answered; a server that is gone leaves it to the next turn, under the same id."""
        settings = SETTINGS | {"seed": number % self.in_flight}
        body = {"picture": picture, "settings": settings, "job_id": f"job-{number}"}
        answer = client.post("/api/jobs", json=body)
        if answer.status_code in (200, 201):
            self.acknowledged.add(f"job-{number}")
        else:
            self.refusals.append(f"{answer.status_code} {answer.text}")

    def _unfinished(self, client: httpx2.Client) -> int:
        """Jobs that are not over. One that was set aside (its worker was killed three times) is retried, as users do."""
        for job in client.get("/api/jobs?state=set_aside&limit=500").json()["jobs"]:
            client.post(f"/api/jobs/{job['id']}/retry").raise_for_status()
            self.retried += 1
        return len(client.get("/api/jobs?state=queued&state=running&limit=500").json()["jobs"])


@dataclass
class Witness:
    """Looks at everything that is visible in the output folder: each video has to be the one of its seed, once."""

    output: Path
    reference: dict[int, str]
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    different: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)

    def look(self, *, again: bool = False) -> None:
        for path in self.output.glob("*.mp4"):
            if path.name.startswith("."):
                continue
            facts = path.stat()
            mark = (facts.st_ino, facts.st_mtime_ns)
            if self.seen.setdefault(path.name, mark) != mark:
                self.twice.add(path.name)
            elif again or path.name not in self.different:
                self._judge(path)
        for path in [*self.output.glob("*.json"), *self.output.glob("jobs/*/*.json")]:
            if not path.name.startswith("."):
                self._parse(path)

    def _judge(self, path: Path) -> None:
        number = int(path.stem.removeprefix("job-"))
        if sha256(path) != self.reference[number % len(self.reference)]:
            self.different.add(path.name)

    def _parse(self, path: Path) -> None:
        try:
            json.loads(path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            self.partial.add(str(path.relative_to(self.output)))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def undisturbed(root: Path, model: str, in_flight: int) -> tuple[dict[int, str], float]:
    """SHA-256 of the video of each seed, computed without a kill; and how long a worker took from its start to a video."""
    server = LiveServer(root, model).start()
    begin, first = time.monotonic(), 0.0
    try:
        picture = server.upload(png(64, 64))
        for seed in range(in_flight):
            server.submit(picture, SETTINGS | {"seed": seed}, f"job-{seed}").raise_for_status()
        for seed in range(in_flight):
            job = server.ended(f"job-{seed}")
            assert job["state"] == "done", job
            first = first or time.monotonic() - begin
    finally:
        server.stop()
    return {seed: sha256(root / "output" / f"job-{seed}.mp4") for seed in range(in_flight)}, first


def worker_of(server: LiveServer) -> psutil.Process | None:
    """The process that computes, None while there is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(server.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    return child
    return None


def kill(server: LiveServer, victim: str) -> None:
    """SIGKILL. A worker that is not there, because it has just been killed, is waited for."""
    if victim in ("worker", "both"):
        until(lambda: worker_of(server))
        worker = worker_of(server)
        with contextlib.suppress(psutil.NoSuchProcess):
            assert worker is not None
            worker.kill()
    if victim in ("server", "both"):
        server.process.kill()
        server.process.wait()
        server.client.close()
        server.listener.join()
        assert server.process.stderr is not None
        server.process.stderr.close()


def disturb(server: LiveServer, witness: Witness, kills: int, longest_gap: float, dice: random.Random) -> Counter[str]:
    """Kill at random instants, look at what is visible after each, and bring back what was killed."""
    counted: Counter[str] = Counter()
    for number in range(kills):
        time.sleep(dice.uniform(0, longest_gap))
        victim = dice.choice(VICTIMS)
        kill(server, victim)
        counted[victim] += 1
        witness.look()
        if victim != "worker":
            server.start(server.port)
        print(f"{number + 1} of {kills}: {victim}, {len(witness.seen)} videos so far", file=sys.stderr, flush=True)
    return counted


def twice_done(database: Path) -> int:
    """Jobs whose end is told more than once in the store's events."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT job_id, data FROM events WHERE kind = 'state'").fetchall()
    ends = Counter(job for job, data in rows if json.loads(data)["state"] == "done")
    return sum(count > 1 for count in ends.values())


def run(root: Path, model: str, kills: int, in_flight: int, longest_gap: float | None, seed: int) -> dict[str, Any]:
    """The whole measurement below `root`. Without a `longest_gap` a worker may live as long as one needs for its first video."""
    begin = time.monotonic()
    reference, first = undisturbed(root / "undisturbed", model, in_flight)
    longest_gap = longest_gap or first
    server = LiveServer(root / "disturbed", model).start()
    witness = Witness(root / "disturbed" / "output", reference)
    client = Client(server, in_flight)
    thread = threading.Thread(target=client.run, daemon=True)
    thread.start()
    try:
        until(lambda: len(client.acknowledged) >= in_flight)
        counted = disturb(server, witness, kills, longest_gap, random.Random(seed))
        until(lambda: len(client.acknowledged) == client.submitted)
        client.in_flight, settled = 0, time.monotonic()
        until(lambda: all(job["state"] in OVER for job in server.all_jobs()), *UNREACHABLE, patience=3600)
        client.ending.set()
        thread.join()
        jobs = server.all_jobs()
    finally:
        server.stop()
    witness.look(again=True)
    ids = Counter(job["id"] for job in jobs)
    states = Counter(job["state"] for job in jobs)
    return {
        "kills": dict(counted),
        "longest_gap_s": round(longest_gap, 1),
        "jobs": client.submitted,
        "lost": len(client.acknowledged - set(ids)) + len(ids) - states["done"],
        "duplicated": sum(count > 1 for count in ids.values())
        + twice_done(root / "disturbed" / "output" / "jobs" / "queue.db")
        + len(witness.twice),
        "different": len(witness.different) + len(ids) - len(witness.seen),
        "partial": len(witness.partial),
        "left_over": len([path for path in (root / "disturbed" / "output").rglob(".*") if path.name != ".lock"]),
        "refused": client.refusals,
        "retried_after_set_aside": client.retried,
        "begun_more_than_once": sum(job["attempts"] > 1 for job in jobs),
        "seconds": round(time.monotonic() - begin),
        "seconds_to_settle": round(time.monotonic() - settled),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=10)
    parser.add_argument("--longest-gap", type=float, help="seconds between kills, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        result = run(Path(folder), args.model, args.kills, args.in_flight, args.longest_gap, args.seed)
    result |= {"date": date.today().isoformat(), "cores": os.cpu_count(), "load_at_end": os.getloadavg()}
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    bad = ("lost", "duplicated", "different", "partial", "left_over")
    raise SystemExit(any(result[name] for name in bad) or bool(result["refused"]))


if __name__ == "__main__":
    main()
