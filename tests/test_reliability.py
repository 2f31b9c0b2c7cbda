"""The reliability benchmarks at a size that a test can have: kills, power cuts, a crowd that submits, a crowd that listens."""

from __future__ import annotations

import shutil

import pytest
from benchmarks import chaos, load, power_cut, streams

from servers import serving


@pytest.fixture(scope="module")
def crowded(checkpoint, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("crowded"), str(checkpoint), **load.LIMITS) as server:
        yield server


def test_kills_lose_duplicate_and_change_nothing(checkpoint, tmp_path):
    result = chaos.run(tmp_path, str(checkpoint), kills=2, in_flight=3, longest_gap=2.0, seed=2)
    assert sum(result["kills"].values()) == 2
    assert result["jobs"] >= 3
    bad = ("lost", "duplicated", "different", "partial", "left_over", "refused")
    assert {name: result[name] for name in bad if result[name]} == {}


def test_a_power_cut_loses_nothing_that_was_acknowledged(checkpoint, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for the recorder")
    result = power_cut.run(tmp_path, str(checkpoint), jobs=1, every=11, resumes=1)
    assert result["recorded_otherwise"] == []
    assert result["problems"] == []
    assert (result["acknowledged"], result["resumed"]) == (2, 1)
    assert result["flushes"] > 20
    assert result["disks_examined"] > 40


def test_a_crowd_submits_while_a_job_computes(crowded):
    result = load.measure(crowded, jobs=24, clients=8, per_second=50)
    assert (result["accepted"], result["answered_again"], result["stored_once"]) == (24, 24, 24)
    assert result["other_answers"] == {}
    assert result["health_ms"]["count"] > 0
    for job in crowded.all_jobs():
        if job["state"] in ("queued", "running"):
            crowded.client.post(f"/api/jobs/{job['id']}/cancel")


def test_streams_come_and_go_while_jobs_compute(crowded):
    result = streams.measure(crowded, streams=20, seconds=4, warm_up=0.5)
    assert result["jobs"] > 0
    assert result["opened"] >= 20
    assert (result["refused"], result["events_out_of_order"]) == (0, 0)
    assert result["open_at_end"] <= 21
    assert result["events_received"] > 0
