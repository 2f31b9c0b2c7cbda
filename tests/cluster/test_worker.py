"""A worker's tasks, in this process: parcels in, an outcome and a parcel out, models kept. Without Ray."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter

import pytest

from wan2_i2v import api, pipeline
from wan2_i2v.cluster import parcels
from wan2_i2v.cluster.storage import Storage
from wan2_i2v.cluster.way import order
from wan2_i2v.cluster.worker import Task, Worker
from wan2_i2v.events import Progress, Started
from wan2_i2v.models import components
from wan2_i2v.stages import preprocess
from wan2_i2v.stages.base import Context, Job


@pytest.fixture
def job(ask, boat_folder):
    """Makes planned jobs whose pictures are prepared."""

    def make(name: str, **fields) -> Job:
        (planned,) = api.prepare([ask(job_id=name, **fields)])
        assert isinstance(planned, api.Order), planned
        planned.workspace.create(planned.request, planned.plan)
        made = Job(planned.plan, planned.workspace)
        pipeline.walk([pipeline.Fate(made, made)], (preprocess.STAGE,), Context(lambda event: None, lambda: False))
        return made

    return make


def give(worker: Worker, job: Job, stage: str, **more):
    """One task, with the parcels that the driver would send; what it made is put into the job's folder."""
    brought = [parcels.pack(job.workspace, job.plan, artifact) for artifact in parcels.needs(stage)]
    outcome, made = worker.work(Task(stage, job.plan, job.plan.peaks, **more), *filter(None, brought))
    parcels.unpack(made, job.workspace)
    return outcome


def artifacts(job: Job) -> dict[str, str]:
    return {
        name: hashlib.sha256(data.tobytes()).hexdigest()
        for artifact in ("text", "conditioning", "latents", "clip")
        for name, data in parcels.pack(job.workspace, job.plan, artifact).items()
    }


def test_stage_by_stage_a_worker_makes_what_the_pipeline_makes(job):
    there, here = job("there"), job("here")
    worker = Worker()
    seen: dict[str, float] = {}
    for stage in order(there.plan):
        outcome = give(worker, there, stage)
        seen |= outcome.measured
        assert outcome.error is None and not outcome.stopped and list(outcome.seconds) == [stage]
        assert [event.stage for event in outcome.events if isinstance(event, Started)] == [stage]
    fates = [pipeline.Fate(here, here)]
    pipeline.walk(fates, pipeline.STAGES[:-1], Context(lambda event: None, lambda: False))
    assert seen.keys() == fates[0].peaks.keys()
    assert fates[0].error is None and artifacts(there) == artifacts(here) and len(artifacts(here)) == 4
    verdicts = [json.loads(one.workspace.verification.read_bytes()) for one in (there, here)]
    assert verdicts[0] == verdicts[1]


def test_a_model_stays_open_for_the_next_job_and_closes_for_another(job, monkeypatch):
    opened: Counter[str] = Counter()
    original = components.transformer

    def counted(source, expert):
        opened[expert] += 1
        return original(source, expert)

    monkeypatch.setattr(components, "transformer", counted)
    jobs, worker = [job("one"), job("two", seed=4)], Worker()
    for stage in order(jobs[0].plan)[:4]:
        for one in jobs:
            assert give(worker, one, stage).error is None
    assert opened == {"high": 1, "low": 1}
    give(worker, job("again"), "text")
    # The VAE's stages are one pool, and each has loaded the half that it needs.
    for one, stage in ((jobs[0], "decode"), (job("late"), "image"), (jobs[1], "decode")):
        assert give(worker, one, stage).error is None
    assert opened == {"high": 1, "low": 1}


def test_an_error_of_the_job_is_its_outcome_and_the_worker_goes_on(job):
    one, worker = job("one"), Worker()
    outcome, made = worker.work(Task("denoise low", one.plan, one.plan.peaks))
    assert outcome.error is not None and made == {}
    gone = one.plan.model_copy(update={"model_fingerprint": "0" * 64})
    outcome, _ = worker.work(Task("text", gone, gone.peaks))
    assert outcome.error["code"] == "invalid_request"
    assert give(worker, one, "text").error is None


def test_a_stopped_worker_brings_the_steps_so_far(job):
    one, worker = job("one", num_inference_steps=12), Worker()
    for stage in ("text", "image"):
        give(worker, one, stage)
    steps, ended = [], threading.Event()

    def listen() -> None:
        while not ended.wait(0.001):
            steps.extend(event for event in worker.hear(stop=bool(steps)) if isinstance(event, Progress))

    thread = threading.Thread(target=listen)
    thread.start()
    outcome = give(worker, one, "denoise high")
    ended.set()
    thread.join()
    if not outcome.stopped:
        pytest.skip("the steps were over before the word to stop came")
    assert outcome.error is None and one.workspace.latents.is_file()


def test_artifacts_go_to_the_second_place_too(job, tmp_path):
    one = job("one")
    (tmp_path / "store").mkdir()
    assert give(Worker(), one, "text", storage=str(tmp_path / "store")).error is None
    kept = Storage(str(tmp_path / "store")).load(one.plan, "text")
    assert kept["text.safetensors"].tobytes() == one.workspace.text.read_bytes()
