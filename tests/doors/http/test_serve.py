"""A real server over loopback: jobs computed, streams resumed, an orderly end, and the command line's jobs handed to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from requests_http import SETTINGS, png
from servers import LiveServer, serving, until
from wan2_i2v.doors import cli
from wan2_i2v.doors.http import server as server_module
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.jobs.lock import url_of_owner

TOKEN = "a-long-random-token"
ROOT = Path(__file__).resolve().parents[3]
FLAGS = ["-p", "pan left", "-l", "5", "-w", "48", "--height", "32", "-s", "2", "--seed", "5"]


@pytest.fixture(scope="module")
def live(checkpoint, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("live"), str(checkpoint), WAN2_I2V_TOKEN=TOKEN) as server:
        yield server
    assert TOKEN not in server.told
    assert "Traceback" not in server.told


def events_of(server: LiveServer, headers: dict[str, str], stop) -> list[tuple[int, str, dict]]:
    """Events of one stream until `stop(event)`."""
    found = []
    with server.client.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
                continue
            if "event" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                if stop(found[-1]):
                    return found
            fields = {}
    return found


def is_done(event) -> bool:
    return event[1] == "state" and event[2]["state"] == "done"


def test_a_job_from_picture_to_video_and_its_events_again(live, picture):
    job = live.submit(live.upload(picture), SETTINGS, "first").json()
    assert job["state"] in ("queued", "running")
    done = live.ended("first")
    assert (done["state"], done["fraction"]) == ("done", 1.0)
    assert done["verification"]
    video = live.client.get(done["links"]["video"])
    assert video.content[4:8] == b"ftyp"
    record = live.client.get(done["links"]["record"]).json()
    assert record["plan"]["seed"] == 5

    whole = events_of(live, {"Last-Event-ID": "0"}, is_done)
    numbers = [number for number, _, _ in whole]
    assert numbers == sorted(set(numbers))
    mine = [data for _, _, data in whole if data["job_id"] == "first"]
    assert [data["state"] for data in mine if "state" in data] == ["queued", "running", "done"]
    fractions = [data["fraction"] for data in mine if "stage" in data]
    assert fractions == sorted(fractions)
    middle = numbers[len(numbers) // 2]
    assert events_of(live, {"Last-Event-ID": str(middle)}, is_done) == [one for one in whole if one[0] > middle]
    assert events_of(live, {"Last-Event-ID": "999999"}, lambda event: True)[0][1] == "reset"


def test_the_gate_is_closed_without_the_token(live):
    with httpx2.Client(base_url=live.url, trust_env=False) as stranger:
        assert stranger.get("/healthz").json() == {"status": "ok"}
        for path in ("/api/info", "/api/jobs", "/api/events", "/metrics", "/openapi.json"):
            assert stranger.get(path).status_code == 401
        assert stranger.post("/api/session", json={"token": TOKEN}).status_code == 204
        assert stranger.get("/api/info").status_code == 200


def test_a_second_server_is_refused_with_the_url_of_the_first(live, checkpoint):
    environment = live.environment | {"WAN2_I2V_OUTPUT": str(live.root / "other")}
    second = subprocess.run([*live.command, "--port", "0"], env=environment, capture_output=True, text=True)
    assert second.returncode == 1
    assert live.url in second.stderr


@pytest.mark.parametrize("flags", [["--host", "0.0.0.0"], ["--host", "::"], ["--port", "70000"], ["--port", "x"]])
def test_addresses_that_may_not_be_are_refused(flags, capsys):
    assert cli.main(["serve", *flags]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_public_address_needs_a_token_or_a_decision():
    server_module.check_address(HttpSettings(host="0.0.0.0", token="x"))
    server_module.check_address(HttpSettings(host="0.0.0.0", without_token=True))
    server_module.check_address(HttpSettings(host="::1"))


def test_a_taken_port_is_refused(live, capsys):
    assert cli.main(["serve", "--port", live.port]) == 2
    assert "another --port" in capsys.readouterr().err


def test_a_stopped_server_goes_on_where_it_was(checkpoint, tmp_path, picture):
    first = LiveServer(tmp_path, str(checkpoint)).start()
    first.submit(first.upload(picture), SETTINGS | {"num_inference_steps": 30}, "long")
    until(lambda: (first.job("long")["stage"] or "").startswith("denoise"))
    stream = first.client.stream("GET", "/api/events")
    with stream as answer:
        lines = answer.iter_lines()
        next(lines)
        first.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx2.RemoteProtocolError):
            list(lines)
    assert first.stop() == 0
    assert (tmp_path / "output" / "jobs" / "long" / "latents.safetensors").exists()
    advertised = "http://wan2-i2v:8080"
    second = LiveServer(tmp_path, str(checkpoint), WAN2_I2V_ADVERTISED_URL=advertised).start(first.port)
    try:
        assert url_of_owner("cpu", tmp_path / "locks") == advertised
        job = second.ended("long")
        assert (job["state"], job["attempts"]) == ("done", 2)
    finally:
        assert second.stop(signal.SIGINT) == 0


@pytest.fixture
def user(live, tmp_path, monkeypatch):
    """A user in a folder of their own, on the machine of the service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAN2_I2V_LOCKS", live.environment["WAN2_I2V_LOCKS"])
    monkeypatch.setenv("WAN2_I2V_TOKEN", TOKEN)
    (tmp_path / "boat.png").write_bytes(png(60, 40))
    return tmp_path


def test_generate_hands_its_jobs_to_the_service(live, user, checkpoint, capsys):
    arguments = ["generate", "boat.png", *FLAGS, "--model", str(checkpoint), "--output", "mine.mp4", "--job-id", "mine"]
    code = cli.main(arguments)
    said = capsys.readouterr()
    assert code in (0, 3), said.err
    assert f"handed to the service at {live.url}" in said.err
    assert "denoise" in said.err
    assert said.out.strip() == str(user / "mine.mp4")
    assert (user / "mine.mp4").read_bytes() == live.client.get("/api/jobs/mine/video").content
    sidecar = json.loads((user / "mine.mp4.json").read_text())
    assert (sidecar["video"], sidecar["plan"]["seed"]) == (str(user / "mine.mp4"), 5)
    assert not (user / "output").exists()

    (user / "mine.mp4").unlink()
    assert cli.main([*arguments, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["video"] == str(user / "mine.mp4")
    assert cli.main(["generate", "boat.png", *FLAGS, "-p", "else", "--job-id", "mine", "--model", str(checkpoint)]) == 1
    assert "belongs to a different job" in capsys.readouterr().err


def test_a_video_that_was_made_here_is_not_replaced_by_the_services(live, user, checkpoint, capsys, monkeypatch):
    arguments = ["generate", "boat.png", *FLAGS, "--model", str(checkpoint), "--job-id"]
    with monkeypatch.context() as alone:
        alone.setenv("WAN2_I2V_LOCKS", str(user / "none"))
        codes = [cli.main([*arguments, name]) for name in ("own", "kept")]
    assert "handed" not in capsys.readouterr().err
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in user.glob("output/*.mp4*")}
    assert len(before) == 4
    # The same request again, beside the service: one job is over, of the other only the video is left.
    (user / "output/jobs/kept/record.json").unlink()
    for name, code, words in (("own", codes[0], 0), ("kept", codes[1], 1)):
        assert cli.main([*arguments, name]) == code
        said = capsys.readouterr()
        assert said.out.strip() == str(user / f"output/{name}.mp4")
        assert said.err.count("handed to the service") == words
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert not [job for job in live.client.get("/api/jobs").json()["jobs"] if job["id"].startswith("own")]


def test_jobs_that_are_over_and_new_ones_go_together(live, user, checkpoint, capsys, monkeypatch):
    arguments = ["boat.png", *FLAGS[:-1], "--model", str(checkpoint), "--json"]
    with monkeypatch.context() as alone:
        alone.setenv("WAN2_I2V_LOCKS", str(user / "none"))
        cli.main(["generate", "boat.png", *FLAGS, "--model", str(checkpoint)])
    video = user / "output/boat-5.mp4"
    before = video.read_bytes()
    capsys.readouterr()
    assert cli.main(["generate", *arguments[:-3], "4", *arguments[-3:], "--batch-size", "2"]) in (0, 3)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["plan"]["seed"] for record in records] == [4, 5]
    assert records[1]["video"] == str(video) and video.read_bytes() == before


def test_frames_come_back_as_a_folder(live, user, checkpoint, capsys):
    code = cli.main(
        ["generate", "boat.png", *FLAGS, "--model", str(checkpoint), "--format", "png", "--job-id", "frames"]
    )
    assert code in (0, 3)
    folder = Path(capsys.readouterr().out.strip())
    assert folder == user / "output" / "frames-frames"
    assert len(list(folder.glob("*.png"))) == 5


def test_the_old_command_finds_the_service_by_its_url(live, user, checkpoint):
    environment = os.environ | {"WAN2_I2V_URL": live.url, "WAN2_I2V_LOCKS": str(user / "none"), "WAN2_I2V_DEBUG": "1"}
    flags = ["-i", "boat.png", *FLAGS]
    command = [sys.executable, str(ROOT / "generate_video.py"), *flags]
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    # The service has another model than this command's own.
    assert told.returncode != 0
    assert "model: got 'mini'" in told.stderr


def test_a_wrong_token_is_explained(live, user, checkpoint, monkeypatch, capsys):
    monkeypatch.setenv("WAN2_I2V_TOKEN", "wrong")
    assert cli.main(["generate", "boat.png", *FLAGS, "--model", str(checkpoint)]) == 1
    assert "WAN2_I2V_TOKEN" in capsys.readouterr().err


def test_a_service_that_died_is_not_asked(user, checkpoint, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WAN2_I2V_LOCKS", str(tmp_path / "locks"))
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "cpu.json").write_text('{"pid": 1, "url": "http://127.0.0.1:9"}')
    (tmp_path / "locks" / "cpu.lock").touch()
    code = cli.main(["generate", "boat.png", *FLAGS, "--model", str(checkpoint)])
    assert code in (0, 3)
    assert "handed" not in capsys.readouterr().err
