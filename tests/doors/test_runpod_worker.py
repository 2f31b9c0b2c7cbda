"""RunPod's worker SDK, unmodified, with our handler and a control plane of ours; and the handler by itself."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys

import pytest
from control_plane import ControlPlane

from wan2_i2v.doors import runpod as door

FIELDS = {"prompt": "pan left", "length": 5, "fps": 16, "size": "64*64", "steps": 2, "seed": 3}
PATIENCE = 600.0


def test_the_sdks_worker(tmp_path, photo_uri):
    good = {"id": "good-u1", "input": FIELDS | {"image": photo_uri, "job_id": "good"}}
    slow = {"id": "slow-u1", "input": FIELDS | {"image": photo_uri, "job_id": "slow", "steps": 150}}
    bad = {"id": "bad-u1", "input": {"image": photo_uri, "promt": "x"}}
    with ControlPlane() as plane, (tmp_path / "log").open("w") as log:
        plane.waiting += [bad, slow]
        environment = os.environ | plane.environment() | {"WAN2_I2V_OUTPUT": str(tmp_path / "output")}
        worker = subprocess.Popen(
            [sys.executable, "-m", "wan2_i2v.doors.runpod"], env=environment, stdout=log, stderr=log
        )
        try:
            plane.wait(lambda: "slow-u1" in plane.progress, PATIENCE)
            plane.stopping.append("slow-u1")
            plane.waiting.append(good)
            plane.wait(lambda: "good-u1" in plane.results, PATIENCE)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
    assert "promt" in plane.results["bad-u1"]["error"]
    # A stopped job has no result: RunPod knows that it stopped it.
    assert "slow-u1" not in plane.results
    assert not (tmp_path / "output" / "slow.mp4").exists()
    output = plane.results["good-u1"]["output"]
    assert (output["status"], output["jobId"], output["num_frames"], output["seed"]) == ("DONE", "good", 5, 3)
    assert base64.b64decode(output["video"]) == (tmp_path / "output" / "good.mp4").read_bytes()
    assert set(plane.progress["slow-u1"][0]) == {"stage", "done", "total"}
    assert "worker-key" in plane.keys


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("WAN2_I2V_INPUT", str(tmp_path / "input"))
    monkeypatch.setattr("runpod.serverless.progress_update", lambda job, progress: None)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image": "nowhere.png"}, "input_image"),
        ({"image": "DATA", "width": 1}, "width"),
        ({"image": "DATA", "resolution": "480p", "length": 0}, "num_frames"),
        ({"prompt": "x"}, "input_image"),
    ],
)
def test_refusals_are_errors_without_a_trace(alone, photo_uri, given, said):
    given = {name: photo_uri if value == "DATA" else value for name, value in given.items()}
    answer = asyncio.run(door.handler({"id": "j", "input": given}))
    assert said in answer["error"]
    assert "Traceback" not in answer["error"]


def test_the_handler_in_this_process(alone, photo_uri):
    job = {"id": "j", "input": FIELDS | {"image": photo_uri}}
    output = asyncio.run(door.handler(job))
    assert output["status"] == "DONE", output
    assert base64.b64decode(output["video"])[4:8] == b"ftyp"
