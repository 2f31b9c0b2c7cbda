"""Jobs on a ComfyUI server: every way that one can end is a clear outcome.

Against a double of it, and where COMFYUI_DIR names a checkout, whatever a real server can be brought to against that too.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from comfy_double import ComfyDouble
from comfy_plans import request
from comfy_real import CHECKOUT
from PIL import Image

from clips import texture
from wan2_i2v import api
from wan2_i2v.backends import comfyui as backend
from wan2_i2v.comfyui import line
from wan2_i2v.errors import Cancelled, CheckpointError, ComfyUIError, ComfyUILost, InvalidRequest, OutOfMemory
from wan2_i2v.events import Log, Preview, Progress
from wan2_i2v.media import reader
from wan2_i2v.stages import comfyui as stage

REAL = ["real"] if CHECKOUT else []
ON_BOTH = pytest.mark.parametrize("server", ["old", "new"], indirect=True)
"""For what an old server is asked otherwise than one that has `/api/jobs`."""
ON_ALL = pytest.mark.parametrize("server", ["old", "new", *REAL], indirect=True)
ON_REAL = pytest.mark.parametrize("server", ["old", *REAL], indirect=True)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory of its own with a picture in it, and a client in a hurry."""
    for name in ("WAN2_I2V_OUTPUT", "WAN2_I2V_INPUT", "WAN2_I2V_BACKEND", "WAN2_I2V_COMFYUI_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(stage, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(line, "RETRY_SECONDS", 0.05)
    backend._survey.cache_clear()
    Image.fromarray(texture(96, 64)).save("boat.png")
    return tmp_path


@pytest.fixture
def asked(server):
    """Makes requests for the double; its server has no node for NAG."""

    def make(**fields):
        known = {"comfyui_url": server.url, "recipe": "lightx2v", "job_id": "boat"}
        return request(Path("boat.png"), **(known | fields))

    return make


@ON_ALL
def test_a_clip_comes_back_whole_checked_and_recorded(server, asked):
    events = []
    record = api.generate(asked(loras=("lightx2v",)), on_event=events.append)
    assert record.status == "done" and record.verification.passed, record.verification.failures
    facts = reader.probe(Path(record.video))
    assert (facts.frames, facts.width, facts.height, facts.fps) == (8, 96, 64, 16)
    assert (facts.matrix, facts.primaries, facts.transfer) == (6, 1, 1), "tagged as ComfyUI converted it"
    assert record.versions["ComfyUI"] == server.version
    assert record.plan.comfyui.url == server.url
    latents = next(check for check in record.verification.checks if check.name == "latents_finite")
    assert latents.state == "unchecked"
    steps = [event.done for event in events if isinstance(event, Progress) and event.stage == "comfyui"]
    assert steps == sorted(steps) and steps[-1] == 4
    assert any(isinstance(event, Preview) and event.png.startswith(b"\x89PNG") for event in events)
    assert json.loads(Path(record.video).with_name("boat.mp4.json").read_text())["status"] == "done"
    assert sorted(path.name for path in Path("output/jobs/boat").iterdir() if path.suffix == ".mp4") == []


@ON_REAL
def test_the_graph_names_files_as_the_server_has_them(server, asked):
    api.generate(asked())
    (told,) = server.history.values()
    graph = told["prompt"][2]
    assert [node["inputs"]["vae_name"] for node in graph.values() if node["class_type"] == "VAELoader"] == [
        "wan/wan_2.1_vae.safetensors"
    ]


def test_the_same_job_again_asks_the_server_for_nothing(server, asked):
    first = api.generate(asked())
    server.said.clear()
    assert api.generate(asked()).video == first.video
    assert not [said for said in server.said if said.startswith("POST")]


@ON_REAL
def test_several_clips_wait_in_its_queue_one_after_the_other(server, asked):
    records = api.generate_many([asked(job_id=f"boat{number}", seed=number) for number in range(3)])
    assert [record.status for record in records] == ["done"] * 3
    assert len(server.history) == 3


@pytest.mark.parametrize("container", ["webm", "gif"])
@ON_REAL
def test_other_containers_are_made_here(server, asked, container):
    record = api.generate(asked(container=container))
    assert record.status == "done" and reader.probe(Path(record.video)).container == container
    codec = next(check for check in record.verification.checks if check.name == "codec")
    assert codec.passed


def test_a_missing_file_and_a_missing_node_are_named_before_anything_is_sent(server, asked):
    server.files["diffusion_models"].pop()
    with pytest.raises(CheckpointError, match=r"diffusion_models/wan2.2_i2v_low.*huggingface.co/Comfy-Org"):
        api.generate(asked())
    backend._survey.cache_clear()
    server.files["checkpoints"].append("x/wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors")
    with pytest.raises(CheckpointError, match="it lies in models/checkpoints, move it"):
        api.generate(asked())
    backend._survey.cache_clear()
    with pytest.raises(ComfyUIError, match="UnetLoaderGGUF: the node pack ComfyUI-GGUF"):
        api.generate(asked(model="a14b-gguf"))
    backend._survey.cache_clear()
    with pytest.raises(ComfyUIError, match="scheduler 'normal'"):
        server.nodes.discard("VAEDecode")
        server.nodes.add("VAEDecode")
        _without_normal(server)
        api.generate(asked(scheduler="normal"))
    assert not [said for said in server.said if said.startswith("POST")]


def _without_normal(server):
    inner = server._info

    async def info(request):
        answer = await inner(request)
        answer.body = answer.body.replace(b',"normal"', b"")
        answer.headers["content-length"] = str(len(answer.body))
        return answer

    server._info = info
    server.restart()


def test_a_plan_tells_what_is_missing_and_needs_no_server(server, asked):
    server.files["vae"].clear()
    plan = api.prepare([asked()], runnable=False)[0].plan
    assert any("lacks models/vae/wan_2.1_vae.safetensors" in warning for warning in plan.warnings)
    assert any("no node for NAG" in warning for warning in plan.warnings)
    away = api.prepare([asked(comfyui_url="http://127.0.0.1:1")], runnable=False)[0].plan
    assert any("nothing was checked" in warning for warning in away.warnings)
    with pytest.raises(ComfyUILost, match="--comfyui-url"):
        api.generate(asked(comfyui_url="http://127.0.0.1:1"))


def test_a_small_card_decodes_in_tiles(server, asked):
    assert not api.prepare([asked()], runnable=False)[0].plan.comfyui.tiled
    backend._survey.cache_clear()
    server.vram = 2**29
    assert api.prepare([asked()], runnable=False)[0].plan.comfyui.tiled


def test_a_servers_node_for_nag_is_used(server, asked):
    server.nodes.add("WanVideoNAG")
    record = api.generate(asked(negative_prompt="blur"))
    assert record.plan.nag is not None
    graph = next(iter(server.history.values()))["prompt"][2]
    assert [node["class_type"] for node in graph.values()].count("WanVideoNAG") == 2


@ON_ALL
def test_a_node_error_is_told_with_the_node_and_can_be_tried_again(server, asked):
    server.script.append("node error")
    with pytest.raises(ComfyUIError, match=r"\(KSamplerAdvanced\): RuntimeError: mat1 and mat2 shapes cannot.*resume"):
        api.generate(asked())
    assert not Path("output/boat.mp4").exists()
    assert api.resume("boat").status == "done"


@ON_ALL
def test_out_of_memory_is_tried_once_more_with_the_server_emptied(server, asked):
    server.script.append("out of memory")
    record = api.generate(asked())
    assert record.status == "done"
    if isinstance(server, ComfyDouble):
        assert server.freed == 1
    (recovery,) = record.recoveries
    assert recovery.stage == "comfyui" and "ran out of memory" in recovery.reason


@ON_REAL
def test_out_of_memory_twice_is_out_of_memory(server, asked):
    server.script.extend(["out of memory"] * 2)
    with pytest.raises(OutOfMemory, match="smaller size or fewer frames"):
        api.generate(asked())


@ON_ALL
def test_a_job_that_somebody_interrupts_there_has_failed(server, asked):
    server.script.append("interrupted")
    with pytest.raises(ComfyUIError, match=r"interrupted there.*resume"):
        api.generate(asked())


@pytest.mark.parametrize("fate", ["refused", "half refused"])
def test_a_refused_graph_names_node_and_input_and_is_not_left_in_the_queue(server, asked, fate):
    server.script.append(fate)
    with pytest.raises(ComfyUIError, match=r"node 3 \(UNETLoader\): Value not in list: unet_name"):
        api.generate(asked())
    assert not server.waiting


def test_done_without_a_file_is_no_success(server, asked):
    server.script.append("no file")
    with pytest.raises(ComfyUIError, match="names no file"):
        api.generate(asked())
    assert api.resume("boat").status == "done"


def test_a_file_that_is_not_handed_out_is_no_success_and_is_made_again(server, asked, monkeypatch):
    saved = server._saved
    monkeypatch.setattr(server, "_saved", lambda graph, node: {"images": [{"filename": "gone.mp4", "type": "output"}]})
    with pytest.raises(ComfyUIError, match=r"does not hand it out \(HTTP 404\)"):
        api.generate(asked())
    monkeypatch.setattr(server, "_saved", saved)
    assert api.resume("boat").status == "done"


def test_a_damaged_file_is_no_success(server, asked, monkeypatch):
    saved = server._saved

    def broken(graph, node_id):
        told = saved(graph, node_id)
        for path in (server._folder / "output").rglob("*.mp4"):
            path.write_bytes(path.read_bytes()[:200])
        return told

    monkeypatch.setattr(server, "_saved", broken)
    with pytest.raises(ComfyUIError, match="damaged"):
        api.generate(asked())
    assert not Path("output/boat.mp4").exists()


@ON_ALL
def test_cancelling_stops_it_there_and_resume_makes_it(server, asked):
    server.script.append("stuck")
    asking = threading.Event()

    def cancelled():
        if server.running and not server.script:
            asking.set()
        return asking.is_set()

    with pytest.raises(Cancelled, match="resume"):
        api.generate(asked(), cancelled=cancelled)
    until(lambda: not server.running)
    (told,) = server.history.values()
    assert told["status"]["messages"][-1][0] == "execution_interrupted"
    assert api.resume("boat").status == "done"


@ON_BOTH
def test_cancelling_one_that_waits_touches_no_other(server, asked):
    server.running.append([0, "somebody-elses", {}, {}, []])
    seen = []

    def cancelled():
        return any(isinstance(event, Log) and "queue, 1 before it" in event.message for event in seen)

    with pytest.raises(Cancelled):
        api.generate(asked(), on_event=seen.append, cancelled=cancelled)
    assert not server.waiting and server.running[0][1] == "somebody-elses"
    assert "somebody-elses" not in server._stopping


def test_a_cut_websocket_is_made_again_and_nothing_is_lost(server, asked):
    server.step_seconds = 0.15
    events = []

    def emit(event):
        events.append(event)
        if isinstance(event, Progress) and event.stage == "comfyui" and event.done in (1, 2):
            server.cut()

    record = api.generate(asked(), on_event=emit)
    assert record.status == "done"
    steps = [event.done for event in events if isinstance(event, Progress) and event.stage == "comfyui"]
    assert steps == sorted(steps) and steps[-1] == 4


@ON_REAL
def test_without_any_websocket_the_job_is_made_all_the_same(server, asked, monkeypatch):
    monkeypatch.setattr(line.Line, "open", lambda self: False)
    assert api.generate(asked()).status == "done"


@ON_ALL
def test_a_server_that_restarts_gets_the_job_again(server, asked):
    server.script.append("stuck")
    restarting = threading.Thread(
        target=lambda: (until(lambda: server.running and not server.script), server.restart(0.3))
    )
    restarting.start()
    events = []
    record = api.generate(asked(), on_event=events.append)
    restarting.join()
    assert record.status == "done"
    assert any(isinstance(event, Log) and "no longer knows this job" in event.message for event in events)


@ON_BOTH
def test_a_server_that_forgets_it_twice_ends_it_with_a_reason(server, asked):
    server.script.extend(["forgotten"] * 2)
    with pytest.raises(ComfyUIError, match=r"forgot boat 2 times.*resume"):
        api.generate(asked())
    assert api.resume("boat").status == "done"


@ON_REAL
def test_a_server_that_stays_away_ends_it_with_a_reason(server, asked, monkeypatch):
    monkeypatch.setattr(stage, "GONE_SECONDS", 0.5)
    server.script.append("stuck")
    stopping = threading.Thread(target=lambda: (until(lambda: server.running and not server.script), server.stop()))
    stopping.start()
    with pytest.raises(ComfyUILost, match=r"has not answered for 0.5 s.*resume"):
        api.generate(asked())
    stopping.join()
    server.start()


@ON_ALL
def test_a_killed_client_finds_its_job_again(server, asked):
    class Killed(BaseException):
        pass

    def emit(event):
        if isinstance(event, Progress) and event.stage == "comfyui":
            raise Killed

    with pytest.raises(Killed):
        api.generate(asked(), on_event=emit)
    until(lambda: server.history)
    assert api.resume("boat").status == "done"
    assert len(server.history) == 1, "it was submitted once"


def test_a_server_that_gives_ids_of_its_own(server, asked):
    server.keeps_ids = False
    assert api.generate(asked()).status == "done"
    assert list(server.history) == ["given-1"]


@ON_REAL
def test_best_of_makes_several_there(server, asked):
    record = api.generate(asked(best_of=2))
    assert record.status == "done" and [one.seed for one in record.attempts] == [5, 6]
    assert record.versions["ComfyUI"] == server.version
    assert len(server.history) == 2


def test_a_resumed_job_finds_a_server_that_moved(server, asked, monkeypatch):
    server.script.append("node error")
    with pytest.raises(ComfyUIError):
        api.generate(asked())
    server.stop()
    server._port = 0
    server.start()
    monkeypatch.setenv("WAN2_I2V_COMFYUI_URL", server.url)
    assert api.resume("boat").status == "done"


@ON_REAL
def test_nothing_that_exists_is_overwritten(server, asked):
    Path("output").mkdir()
    Path("output/boat.mp4").write_bytes(b"mine")
    with pytest.raises(Exception, match="--overwrite"):
        api.generate(asked())
    assert Path("output/boat.mp4").read_bytes() == b"mine" and not server.history


def test_the_backend_of_the_settings_is_used_and_must_exist(server, monkeypatch):
    monkeypatch.setenv("WAN2_I2V_BACKEND", "comfyui")
    monkeypatch.setenv("WAN2_I2V_COMFYUI_URL", server.url)
    plan = api.plan(request(Path("boat.png"), backend=None, comfyui_url=None))
    assert plan.comfyui.url == server.url
    monkeypatch.setenv("WAN2_I2V_BACKEND", "teapot")
    with pytest.raises(InvalidRequest, match="WAN2_I2V_BACKEND"):
        api.plan(request(Path("boat.png"), backend=None, comfyui_url=None))


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
