"""The durable queue, on SQLite and on PostgreSQL: the same tests."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from jobs_machine import JobMachine

from wan2_i2v.errors import JobNotFound, Wan2I2VError
from wan2_i2v.jobs.errors import JobConflict, QueueFull, StoreUnavailable, WorkerDied
from wan2_i2v.jobs.state import MOVES, STATES, TERMINAL, TRANSITIONS, after
from wan2_i2v.jobs.store import Store


def test_the_table_says_what_is_legal_and_the_rest_raises():
    for state in STATES:
        for move in MOVES:
            if (state, move) in TRANSITIONS:
                assert after(state, move) == TRANSITIONS[state, move]
            else:
                with pytest.raises(JobConflict, match=f"is {state}"):
                    after(state, move)
    assert not [state for state, move in TRANSITIONS if state in TERMINAL and move != "retry"]


def test_a_job_is_submitted_once(store, new_job):
    first, new = store.submit(new_job("a", priority=3, options={"webhook": "http://x"}))
    again, new_again = store.submit(new_job("a"))
    assert (new, new_again) == (True, False)
    assert first == again == store.get("a")
    assert first.options == {"webhook": "http://x"}
    with pytest.raises(JobConflict, match="different job"):
        store.submit(new_job("a", digest="other"))
    with pytest.raises(JobNotFound):
        store.get("b")


def test_what_was_acknowledged_is_there_for_the_next_process(database, new_job):
    store = Store(database)
    for i in range(5):
        store.submit(new_job(f"j{i}"))
    # Not closed yet: the process could have been killed here.
    successor = Store(database)
    assert [job.id for job in successor.page(newest_first=False)] == [f"j{i}" for i in range(5)]
    successor.close()
    store.close()


def test_many_clients_at_once_lose_and_duplicate_nothing(store, new_job):
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: store.submit(new_job(f"j{i % 40}")), range(120)))
    assert sum(new for _, new in results) == 40
    with ThreadPoolExecutor(8) as pool:
        claims = [job.id for jobs in pool.map(lambda i: store.claim(f"w{i}", 3, 60), range(20)) for job in jobs]
    assert sorted(claims) == sorted(f"j{i}" for i in range(40))


def test_urgent_jobs_come_first_but_the_oldest_has_a_place(store, new_job):
    for i in range(3):
        store.submit(new_job(f"slow{i}", priority=-1))
    for i in range(4):
        store.submit(new_job(f"fast{i}"))
    assert [job.id for job in store.claim("w", 1, 60)] == ["fast0"]
    assert [job.id for job in store.claim("w", 2, 60)] == ["slow0", "fast1"]
    assert [job.id for job in store.claim("w", 9, 60)] == ["slow1", "fast2", "fast3", "slow2"]


def test_a_full_queue_refuses(store, new_job):
    store.submit(new_job("a"), max_queued=1)
    with pytest.raises(QueueFull) as refusal:
        store.submit(new_job("b"), max_queued=1)
    assert refusal.value.retry_after > 0
    assert store.submit(new_job("a"), max_queued=1)[1] is False


def test_only_the_claim_that_holds_a_job_may_speak_for_it(store, clock, new_job):
    store.submit(new_job("a"))
    (stale,) = store.claim("w1", 1, lease=10)
    clock.now += 11
    assert store.reclaim() == 1
    (held,) = store.claim("w2", 1, lease=10)
    assert held.attempts == 2
    assert not store.finish(stale, {"video": "x"})
    assert not store.progress(stale, "progress", {"done": 1})
    assert store.beat([stale], 10) == set()
    assert store.beat([held], 10) == {"a"}
    assert store.finish(held, {"video": "y"})
    assert store.get("a").output == {"video": "y"}
    assert not store.fail(held, Wan2I2VError("late"))


def test_a_clock_that_jumps_back_loses_nothing(store, clock, new_job):
    store.submit(new_job("a", time_to_live=100))
    clock.now -= 5000
    store.submit(new_job("b"))
    jobs = store.claim("w", 2, lease=10)
    assert [job.id for job in jobs] == ["a", "b"]
    assert store.reclaim() == 0
    assert store.beat(jobs, 10) == {"a", "b"}
    assert store.expire() == []
    assert all(store.finish(job, {}) for job in jobs)


def test_cancel_retry_and_purge(store, new_job):
    for name in "abc":
        store.submit(new_job(name))
    (job,) = store.claim("w", 1, 60)
    assert store.cancel("a").state == "cancelled"
    assert store.beat([job], 60) == set()
    with pytest.raises(JobConflict):
        store.retry("a")
    assert store.purge_queue() == 2
    store.submit(new_job("d"))
    (job,) = store.claim("w", 1, 60)
    store.fail(job, Wan2I2VError("no"))
    assert store.get("d").error == {"code": "error", "message": "no"}
    retried = store.retry("d")
    assert (retried.state, retried.error) == ("queued", None)
    assert store.counts() == dict.fromkeys(STATES, 0) | {"queued": 1, "cancelled": 3}


def test_a_job_that_ends_its_worker_three_times_is_set_aside(store, new_job):
    store.submit(new_job("bomb"))
    for _ in range(3):
        (job,) = store.claim("w", 1, 60)
        assert store.died(job, WorkerDied(-9, "denoising"))
    bomb = store.get("bomb")
    assert bomb.state == "set_aside"
    assert "SIGKILL" in bomb.error["message"]
    assert store.claim("w", 1, 60) == []
    assert store.retry("bomb").deaths == 0


def test_jobs_expire_while_they_wait_and_while_they_run(store, clock, new_job):
    store.submit(new_job("waits", time_to_live=50, priority=-1))
    store.submit(new_job("runs", execution_timeout=20))
    store.claim("w", 1, 1000)
    clock.now += 21
    assert [job.id for job in store.expire()] == ["runs"]
    clock.now += 40
    assert [job.id for job in store.expire()] == ["waits"]
    assert store.get("waits").state == store.get("runs").state == "timed_out"


def test_a_successor_recovers_what_its_worker_held(store, new_job):
    store.submit(new_job("a"))
    store.submit(new_job("b"))
    store.claim("w1", 1, 1000)
    store.claim("w2", 1, 1000)
    assert store.recover("w1") == 1
    assert [store.get(name).state for name in "ab"] == ["queued", "running"]


def test_events_tell_everything_in_order(store, new_job):
    store.submit(new_job("a"))
    (job,) = store.claim("w", 1, 60)
    store.progress(job, "progress", {"stage": "text", "done": 1, "total": 1})
    store.progress(job, "preview", {"step": 1})
    assert store.get("a").progress == {"stage": "text", "done": 1, "total": 1}
    with pytest.raises(JobConflict, match="rate it when"):
        store.rate("a", 4)
    seen = store.last_event()
    store.finish(job, {"video": "v"})
    assert store.rate("a", 4).output == {"video": "v", "rating": 4}
    events = store.events(0)
    assert [(event.kind, event.data.get("state")) for event in events] == [
        ("state", "queued"),
        ("state", "running"),
        ("progress", None),
        ("preview", None),
        ("state", "done"),
        ("rating", None),
    ]
    assert [event.seq for event in store.events(seen)] == [event.seq for event in events[-2:]]
    assert store.events(0, job_id="other") == []


def test_retention_forgets_ended_jobs_only(store, clock, new_job):
    store.submit(new_job("old"))
    store.cancel("old")
    store.submit(new_job("waiting"))
    clock.now += 100
    assert store.prune(clock.now - 50) == 1
    assert [job.id for job in store.page()] == ["waiting"]


def test_pages(store, new_job):
    for i in range(5):
        store.submit(new_job(f"j{i}"))
    assert [job.id for job in store.page(limit=2)] == ["j4", "j3"]
    assert [job.id for job in store.page(limit=2, after="j3")] == ["j2", "j1"]
    assert [job.id for job in store.page(after="j3", newest_first=False)] == ["j4"]
    assert store.page(only=("done",)) == []


def test_a_locked_database_is_a_clear_error_and_changes_nothing(tmp_path, new_job):
    store = Store(f"sqlite:///{tmp_path}/jobs.db", lock_wait=0.1)
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.submit(new_job("a"))
    other.execute("ROLLBACK")
    other.close()
    assert store.page() == []
    store.submit(new_job("a"))
    store.close()


TestJobMachine = JobMachine.TestCase


def test_many_jobs_are_written_at_once_and_each_has_its_own_outcome(store, new_job):
    store.submit(new_job("known"))
    store.submit(new_job("taken", digest="other"))
    jobs = [new_job("a"), new_job("known"), new_job("taken"), new_job("b"), new_job("c"), new_job("d", client="x")]
    outcomes = store.submit_all(jobs, max_queued=4)
    told = [outcome if isinstance(outcome, Wan2I2VError) else (outcome[0].id, outcome[1]) for outcome in outcomes]
    assert told[:2] == [("a", True), ("known", False)]
    assert isinstance(told[2], JobConflict)
    assert told[3] == ("b", True)
    assert [str(one) for one in told[4:]] == ["4 jobs wait already; the limit is 4. Try again later."] * 2
    assert sorted(store.known(["a", "b", "c", "d", "known"])) == ["a", "b", "known"]
    assert [event.job_id for event in store.events(0)] == ["known", "taken", "a", "b"]


def test_a_clients_own_limit_counts_what_is_written_with_it(store, new_job):
    jobs = [new_job(name, client=client) for name, client in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"))]
    outcomes = store.submit_all(jobs, max_queued=9, max_of_client=2)
    assert [isinstance(outcome, QueueFull) for outcome in outcomes] == [False, False, True, False]
    assert "jobs of yours" in str(outcomes[2])


def test_positions_are_those_of_each_job_alone(store, new_job):
    for number in range(12):
        store.submit(new_job(f"j{number}", priority=number % 3 == 2))
    store.claim("w", 2, 60)
    store.cancel("j3")
    jobs = store.page(limit=50)
    together = store.positions(jobs)
    assert together == {name: place for job in jobs for name, place in store.positions([job]).items()}
    assert sorted(together.values()) == list(range(9))
