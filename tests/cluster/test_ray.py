"""The whole way on a real Ray cluster of this machine, with two simulated cards."""

from __future__ import annotations

import hashlib
import importlib.util
import secrets
from collections import Counter
from pathlib import Path

import psutil
import pytest

import servers
from wan2_i2v import api
from wan2_i2v.cluster import connection, crew, parcels
from wan2_i2v.doors.cli import main
from wan2_i2v.errors import Cancelled, ClusterError, InvalidRequest
from wan2_i2v.events import Finished, Log, Preview, Progress, Started

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: .[ray]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, s3):
    """Two cards that are none, on one machine; its workers see the measurements and settings of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        patch.setenv("WAN2_I2V_CACHE", str(tmp_path_factory.mktemp("cluster-cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        # Ray's workers are at 15 by default: beside other tests they would get nothing.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray = connection.imported()
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=2, num_gpus=2, include_dashboard=False)
        except Exception as error:
            # Ray gives its own processes 30 s to start, whatever else the machine is doing.
            pytest.skip(f"Ray does not start on this machine now: {error}")
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def bytes_of(record) -> str:
    return hashlib.sha256(Path(record.video).read_bytes()).hexdigest()


def test_planning_leaves_no_connection(cluster, ask, boat_folder):
    plan = api.plan(ask(backend="ray", device="auto"))
    assert plan.cluster.cards == 2 and sum(group.cards for group in plan.cluster.groups) == 2
    assert not connection.imported().is_initialized(), (
        "Ray ends processes whose cluster has gone: a server has to outlive it"
    )


def test_three_clips_are_the_same_as_made_here(cluster, ask, boat_folder, monkeypatch):
    asked = [{"prompt": f"pan left {seed}", "seed": seed, "num_frames": 5} for seed in range(3)]
    here = api.generate_many([ask(job_id=f"here-{index}", **one) for index, one in enumerate(asked)])
    events = []
    requests = [ask(job_id=f"there-{index}", backend="ray", device="auto", **one) for index, one in enumerate(asked)]
    there = api.generate_many(requests, events.append)
    assert [record.status for record in there] == ["done"] * 3, [record.error for record in there]
    assert [bytes_of(record) for record in there] == [bytes_of(record) for record in here]
    assert all(record.plan.cluster.cards == 2 and record.verification is not None for record in there)
    finished = Counter(event.job_id for event in events if isinstance(event, Finished))
    assert finished == Counter(record.job_id for record in there)
    started = Counter(event.stage for event in events if isinstance(event, Started))
    assert set(started) >= {"preprocess", "text", "image", "denoise high", "decode", "verify", "finish"}
    assert set(started.values()) == {3}, "no stage was run twice"
    assert any(isinstance(event, Preview) for event in events) and any(isinstance(event, Progress) for event in events)
    assert set(there[0].seconds) == set(started)


def test_a_killed_worker_costs_a_stage_and_no_job(cluster, ask, boat_folder):
    killed = []

    def kill(event):
        if isinstance(event, Started) and event.stage == "denoise high" and not killed:
            for process in psutil.Process().children(recursive=True):
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::Worker"):
                    killed.append(process.pid)
                    process.kill()

    events = []
    requests = [
        ask(job_id=f"killed-{seed}", backend="ray", device="auto", seed=seed, num_inference_steps=8)
        for seed in range(2)
    ]
    records = api.generate_many(requests, lambda event: (events.append(event), kill(event)))
    assert killed and [record.status for record in records] == ["done"] * 2, [record.error for record in records]
    assert any("a worker was lost" in event.message for event in events if isinstance(event, Log))
    here = api.generate(ask(job_id="here", seed=0, num_inference_steps=8))
    assert bytes_of(records[0]) == bytes_of(here)


def test_cancel_keeps_what_is_done_and_resume_goes_on(cluster, ask, boat_folder):
    begun = []

    def look(event):
        if isinstance(event, Progress) and event.stage == "denoise high":
            begun.append(event.done)

    request = ask(job_id="stopped", backend="ray", device="auto", num_inference_steps=12)
    with pytest.raises(Cancelled, match="stopped"):
        api.generate(request, look, lambda: bool(begun))
    assert (api.find_job("stopped").latents).is_file(), "the steps so far are in the job's folder"
    record = api.resume("stopped")
    assert bytes_of(record) == bytes_of(api.generate(ask(job_id="here", num_inference_steps=12)))


def test_a_driver_without_the_artifacts_goes_on_from_s3(cluster, ask, boat_folder, monkeypatch):
    monkeypatch.setenv("WAN2_I2V_CLUSTER_STORAGE", "s3://clips/jobs")
    begun, again = [], []

    def look(event):
        if isinstance(event, Started) and event.stage == "decode":
            begun.append(event)

    with pytest.raises(Cancelled):
        api.generate(ask(job_id="moved", backend="ray", device="auto"), look, lambda: bool(begun))
    workspace, plan = api.find_job("moved"), api.find_job("moved").load_plan()
    made = [workspace.root / name for artifact in parcels.ARTIFACTS for name in parcels.pack(workspace, plan, artifact)]
    assert made
    for path in made:
        path.unlink()
    record = api.resume("moved", again.append)
    computed = {event.stage for event in again if isinstance(event, Started)}
    assert not computed & {"text", "image", "denoise high", "denoise low"}, computed
    assert bytes_of(record) == bytes_of(api.generate(ask(job_id="here")))


def test_attempts_are_those_made_here(cluster, ask, boat_folder):
    several = {"best_of": 2, "retries": 1}
    there = api.generate(ask(job_id="there", backend="ray", device="auto", **several))
    here = api.generate(ask(job_id="here", **several))
    told = [[(one.seed, one.remedy, one.passed, one.failures, one.chosen) for one in r.attempts] for r in (there, here)]
    assert told[0] == told[1] and len(told[0]) >= 2
    assert bytes_of(there) == bytes_of(here)


def test_a_service_gives_its_jobs_to_the_cluster(cluster, ask, boat_folder, tmp_path):
    # This process's workers would keep the cards, with their models open, for its next jobs.
    connection.imported().shutdown()
    with servers.serving(tmp_path, ask().model, "--backend", "ray", "--device", "auto") as server:
        picture = server.upload((boat_folder / "input" / "boat.png").read_bytes())
        for seed in range(2):
            settings = {"prompt": "pan left", "num_frames": 5, "width": 48, "height": 32, "seed": seed}
            assert server.submit(picture, settings, f"served-{seed}").status_code < 300
        ended = [server.ended(f"served-{seed}") for seed in range(2)]
        videos = [server.client.get(f"/v1/videos/served-{seed}/content").content for seed in range(2)]
    assert [job["state"] for job in ended] == ["done"] * 2, ended
    for seed, video in enumerate(videos):
        here = api.generate(ask(job_id=f"served-{seed}", prompt="pan left", seed=seed))
        assert Path(here.video).read_bytes() == video


def test_a_job_that_cannot_work_fails_alone(cluster, ask, boat_folder):
    requests = [ask(job_id=name, backend="ray", device="auto", seed=1) for name in ("good", "bad")]
    orders = api.prepare(requests)
    broken = orders[1].plan.model_copy(update={"model_fingerprint": "0" * 64})
    records = api.run([orders[0], api.Order(orders[1].request, broken, orders[1].workspace)])
    assert [record.status for record in records] == ["done", "failed"]
    assert records[1].error["code"] == "invalid_request" and "have changed since" in records[1].error["message"]


def test_status_names_machines_and_cards(cluster, capsys):
    assert main(["cluster", "status"]) == 0
    shown = capsys.readouterr().out
    assert "2 cards (" in shown and "2 processors" in shown and "token authentication" in shown


def test_a_card_is_not_chosen_by_number(cluster, ask, boat_folder):
    with pytest.raises(InvalidRequest, match="Ray gives out the cards"):
        api.plan(ask(backend="ray", device="cuda:1"))


def test_workers_that_cannot_start_are_not_made_for_ever(cluster, monkeypatch):
    monkeypatch.setattr(crew, "MOST_FAILED", 0)
    broken = crew.Crew(connection.connect(), stages=["not a stage"])
    with pytest.raises(ClusterError, match="no worker of the cluster can start: AttributeError"):
        for _ in range(300):
            broken.tend(0, 1)
            list(broken.listen(1.0))
