"""A state machine that drives a store with two workers in any order, against a model of what must be true."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wan2_i2v.errors import JobNotFound, Wan2I2VError
from wan2_i2v.jobs.errors import JobConflict, WorkerDied
from wan2_i2v.jobs.job import NewJob, StoredJob
from wan2_i2v.jobs.state import TERMINAL
from wan2_i2v.jobs.store import MAX_DEATHS, Store

IDS = st.sampled_from(["a", "b", "c", "d"])
WORKERS = st.sampled_from(["w1", "w2"])
LEASE = 10.0


class JobMachine(RuleBasedStateMachine):
    """submit, claim, beat, die, cancel, retry, expire in any order: no illegal state, nothing lost, nothing twice."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1000.0
        self.store = Store(f"sqlite:///{Path(self.folder.name)}/jobs.db", clock=lambda: self.now)
        self.claims: dict[str, list[StoredJob]] = {"w1": [], "w2": []}
        self.known: set[str] = set()
        self.finished: dict[str, int] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(job=IDS, ttl=st.sampled_from([None, 30.0]), timeout=st.sampled_from([None, 15.0]))
    def submit(self, job: str, ttl: float | None, timeout: float | None) -> None:
        _, new = self.store.submit(NewJob(job, "d", "{}", "{}", time_to_live=ttl, execution_timeout=timeout))
        assert new == (job not in self.known)
        self.known.add(job)

    @rule(worker=WORKERS, limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> None:
        waiting = self.store.counts()["queued"]
        got = self.store.claim(worker, limit, LEASE)
        assert len(got) == min(limit, waiting)
        self.claims[worker] += got

    @rule(worker=WORKERS)
    def beat(self, worker: str) -> None:
        alive = self.store.beat(self.claims[worker], LEASE)
        assert alive == {job.id for job in self.claims[worker] if self.holds(job)}

    @rule(worker=WORKERS, outcome=st.sampled_from(["finish", "fail", "release", "die", "progress"]))
    def say(self, worker: str, outcome: str) -> None:
        if not self.claims[worker]:
            return
        job = self.claims[worker].pop(0)
        held = self.holds(job)
        if outcome == "finish":
            accepted = self.store.finish(job, {})
            self.finished[job.id] = self.finished.get(job.id, 0) + accepted
        elif outcome == "fail":
            accepted = self.store.fail(job, Wan2I2VError("x"))
        elif outcome == "release":
            accepted = self.store.release(job)
        elif outcome == "progress":
            accepted = self.store.progress(job, "progress", {"done": 1})
            self.claims[worker].append(job)
        else:
            accepted = self.store.died(job, WorkerDied(-9, "x"))
        assert accepted == held

    @rule(job=IDS, move=st.sampled_from(["cancel", "retry"]))
    def client(self, job: str, move: str) -> None:
        try:
            before = self.store.get(job)
        except JobNotFound:
            assert job not in self.known
            return
        allowed = {"cancel": ("queued", "running"), "retry": ("failed", "timed_out", "set_aside")}[move]
        try:
            getattr(self.store, move)(job)
            assert before.state in allowed
        except JobConflict:
            assert before.state not in allowed

    @rule(seconds=st.sampled_from([-50.0, 1.0, 11.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.store.expire()
        self.store.reclaim()

    @rule(worker=WORKERS)
    def recover(self, worker: str) -> None:
        self.store.recover(worker)
        assert not [job for job in self.claims[worker] if self.holds(job)]

    @invariant()
    def nothing_is_lost_or_twice(self) -> None:
        jobs = {job.id: job for job in self.store.page(limit=100)}
        assert set(jobs) == self.known
        assert all(count <= 1 for count in self.finished.values())
        for job in jobs.values():
            assert (job.token is not None) == (job.state == "running")
            assert (job.finished_at is not None) == (job.state in TERMINAL)
            assert job.deaths <= MAX_DEATHS
            holders = [claim for claims in self.claims.values() for claim in claims if claim.token == job.token]
            assert len(holders) <= 1

    def holds(self, job: StoredJob) -> bool:
        current = self.store.get(job.id)
        return current.state == "running" and current.token == job.token


JobMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
