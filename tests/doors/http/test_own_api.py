"""Our own API in one process: pictures, plans, jobs and their files. Jobs wait; the worker is that of the live tests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
import sqlite3
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from requests_http import SETTINGS, png
from wan2_i2v.doors.http.views import progress_of
from wan2_i2v.insights.book import Book
from wan2_i2v.jobs.store import Store
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Check, Record, Verification
from wan2_i2v.workspace import Workspace, save_json


@pytest.fixture
def kept(client, picture) -> str:
    """The id of an uploaded picture."""
    return client.post("/api/pictures", content=picture).json()["picture"]


@pytest.fixture
def submit(client, kept):
    def go(job_id=None, settings=SETTINGS, **more):
        body = {"picture": kept, "settings": settings} | ({"job_id": job_id} if job_id else {}) | more
        return client.post("/api/jobs", json=body)

    return go


def refusal(answer, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field)
    return error["message"]


def test_a_picture_is_kept_once_under_the_hash_of_its_bytes(client, picture, service):
    first = client.post("/api/pictures", content=picture)
    form = client.post("/api/pictures", files={"picture": ("boat.png", picture)})
    assert (first.status_code, form.status_code) == (201, 201)
    assert first.json() == form.json()
    assert first.json()["facts"]["format"] == "PNG"
    assert (first.json()["width"], first.json()["height"]) == (48, 32)
    assert [path.name for path in (service.output / "pictures").iterdir()] == [first.json()["picture"]]


def test_what_is_no_picture_is_refused_and_not_kept(client_of, service, picture):
    client = client_of(max_upload_bytes=2000)
    refusal(client.post("/api/pictures", content=b"<html>"), 415, "no_picture")
    refusal(client.post("/api/pictures", content=picture[:60]), 422, "invalid_image", "image")
    refusal(client.post("/api/pictures", content=b"x" * 2001), 413, "too_large")
    refusal(client.post("/api/pictures", files={"other": ("a", picture)}), 422, "invalid_request", "picture")
    assert not list((service.output / "pictures").glob("*"))


def test_previews_are_bounded_and_keep_transparency(client):
    for mode, media_type in (("RGB", "image/jpeg"), ("RGBA", "image/png")):
        data = io.BytesIO()
        Image.new(mode, (300, 200)).save(data, "PNG")
        picture = client.post("/api/pictures", content=data.getvalue()).json()["picture"]
        answer = client.get(f"/api/pictures/{picture}?side=64")
        assert answer.headers["content-type"] == media_type
        assert Image.open(io.BytesIO(answer.content)).size == (64, 43)
    refusal(client.get("/api/pictures/" + "0" * 64), 404, "not_found")


def test_a_plan_says_everything_and_keeps_nothing(client, kept, service):
    body = {"picture": kept, "settings": SETTINGS | {"negative_prompt": "blur"}}
    plan = client.post("/api/plan", json=body).json()
    assert (plan["width"], plan["height"], plan["num_frames"], plan["duration"]) == (48, 32, 5, 5 / 24)
    assert len(plan["steps"]) == 2
    assert {"rule", "severity", "message", "instead", "field"} <= plan["hints"][0].keys()
    assert plan["analysis"]["width"] == 48
    assert service.store.counts()["queued"] == 0


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"width": 15}, "width"),
        ({"width": "64"}, "width"),
        ({"fps": True}, "fps"),
        ({"nag": 1}, "nag"),
        ({"sampler": "x"}, "sampler"),
        ({"frames": 5}, "frames"),
        ({"output": "/etc"}, "output"),
        ({"last_image": "/etc/passwd"}, "last_image"),
        ({"model": "/"}, "model"),
        ({"overwrite": True}, "overwrite"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"loras": ["/etc/passwd"]}, "loras"),
        ({"loras_high": ["../a.safetensors:1"]}, "loras_high"),
        ({"background": "nothing"}, "background"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(client, kept, settings, field):
    content = json.dumps({"picture": kept, "settings": settings})
    for path in ("/api/plan", "/api/jobs"):
        refusal(
            client.post(path, content=content, headers={"Content-Type": "application/json"}),
            422,
            "invalid_request",
            field,
        )


@pytest.fixture
def ending() -> bytes:
    """A picture for a clip to end with."""
    return png(96, 64)


def test_a_clip_ends_with_a_second_picture(client, kept, submit, ending, service):
    last = client.post("/api/pictures", content=ending).json()["picture"]
    body = {"picture": kept, "last_picture": last, "settings": SETTINGS}
    assert client.post("/api/plan", json=body).json()["last_image"]["sha256"] == last
    job = submit("both", last_picture=last).json()
    assert (job["picture"], job["last_picture"]) == (kept, last)
    service.lay_out(service.store.get("both"))
    assert (service.folder("both") / f"last-picture-{last[:16]}").read_bytes() == ending
    refusal(submit("both"), 409, "job_conflict")
    again = client.post("/api/jobs/both/again", json={"seed": 9}).json()
    assert (again["last_picture"], again["settings"]["seed"]) == (last, 9)
    assert submit("one").json()["last_picture"] is None
    refusal(submit("none", last_picture="0" * 64), 422, "invalid_image", "picture")


def test_runpods_and_openais_clients_name_a_last_picture(client, service, picture, ending):
    first, last = (base64.b64encode(data).decode() for data in (picture, ending))
    fields = {name: SETTINGS[name] for name in ("prompt", "num_frames", "num_inference_steps", "seed")}
    given = {"image": first, "end_image": last, "job_id": "runpod", **fields}
    assert client.post("/run", json={"input": given}).status_code == 200
    linked = {
        "input_reference": {"image_url": f"data:,{quote(picture)}"},
        "last_image": {"image_url": f"data:,{quote(ending)}"},
    }
    files = {"input_reference": ("a.png", picture), "last_image": ("b.png", ending)}
    for key, body in (("linked", {"json": fields | linked}), ("uploaded", {"data": fields, "files": files})):
        answer = client.post("/v1/videos", headers={"Idempotency-Key": key}, **body)
        assert answer.status_code == 200, answer.text
    for job_id in ("runpod", "linked", "uploaded"):
        assert client.get(f"/api/jobs/{job_id}").json()["last_picture"] == hashlib.sha256(ending).hexdigest(), job_id


def test_a_job_is_accepted_once(client, submit, service):
    first = submit("a", priority=3)
    assert first.status_code == 201
    assert first.headers["location"] == "/api/jobs/a"
    job = first.json()
    assert (job["state"], job["position"], job["priority"], job["fraction"]) == ("queued", 0, 3, 0.0)
    assert job["settings"] == {name: value for name, value in SETTINGS.items() if name != "fps"}
    assert job["plan"]["seed"] == 5
    assert submit("a", priority=3).status_code == 200
    refusal(submit("a", settings=SETTINGS | {"seed": 6}), 409, "job_conflict")
    refusal(submit("queue.db"), 422, "invalid_request", "job_id")
    assert [submit("b").json()["position"], submit().json()["position"]] == [1, 2]
    assert service.store.counts()["queued"] == 3


def test_the_idempotency_key_is_the_job_id(client, kept):
    body = {"picture": kept, "settings": SETTINGS}
    for status in (201, 200):
        answer = client.post("/api/jobs", json=body, headers={"Idempotency-Key": "mine"})
        assert (answer.status_code, answer.json()["id"]) == (status, "mine")
    clash = client.post("/api/jobs", json=body | {"job_id": "other"}, headers={"Idempotency-Key": "mine"})
    refusal(clash, 422, "invalid_request", "Idempotency-Key")


def test_jobs_are_listed_searched_and_paged(client, submit):
    for number, prompt in enumerate(("The boat rocks", "A red BOAT sinks", "100% snow", "Füchse rennen")):
        submit(f"j{number}", settings=SETTINGS | {"prompt": prompt})

    def ids(query):
        return [job["id"] for job in client.get(f"/api/jobs?{query}").json()["jobs"]]

    assert ids("") == ["j3", "j2", "j1", "j0"]
    assert ids("search=boat") == ["j1", "j0"]
    assert ids("search=boat RED") == ["j1"]
    assert (ids("search=100%25"), ids("search=_"), ids("search=FÜCHSE")) == (["j2"], [], ["j3"])
    assert (ids("state=queued&state=done&limit=1"), ids("state=done")) == (["j3"], [])
    page = client.get("/api/jobs?limit=3").json()
    assert ids(f"limit=3&before={page['next']}") == ["j0"]
    assert client.get(f"/api/jobs?before={page['next']}").json()["next"] is None


def test_cancel_forget_and_again(client, submit, service):
    submit("a")
    refusal(client.delete("/api/jobs/a"), 409, "job_conflict")
    assert client.post("/api/jobs/a/cancel").json()["state"] == "cancelled"
    refusal(client.post("/api/jobs/a/cancel"), 409, "job_conflict")
    refusal(client.post("/api/jobs/a/retry"), 409, "job_conflict")
    service.lay_out(service.store.get("a"))
    for picture in (service.output / "pictures").iterdir():
        picture.unlink()
    again = client.post("/api/jobs/a/again", json={"seed": 9})
    assert again.status_code == 201
    assert (again.json()["plan"]["seed"], again.json()["settings"]["prompt"]) == (9, "pan left")
    assert client.post("/api/jobs/a/again").json()["plan"]["seed"] not in (5, 9)
    assert client.delete("/api/jobs/a").status_code == 204
    for path in ("", "/record", "/video", "/preview"):
        refusal(client.get(f"/api/jobs/a{path}"), 404, "job_not_found")


def test_a_client_that_fills_the_queue_waits(client_of, kept, service, monkeypatch):
    limits = service.settings.__class__(max_queued_per_client=2)
    monkeypatch.setattr(service, "settings", limits)
    client = client_of()
    answers = [client.post("/api/jobs", json={"picture": kept, "settings": SETTINGS}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert int(answers[2].headers["retry-after"]) > 0


@pytest.fixture
def done(service, submit):
    """A finished job, its video written by hand."""
    submit("done")
    (job,) = service.store.claim("w", 1, 60)
    service.lay_out(job)
    video = service.output / "done.mp4"
    frames = [Image.new("RGB", (48, 32), (10 * n, 0, 0)) for n in range(5)]
    write_clip(video, [np.asarray(frame) for frame in frames], ClipFormat("mp4", 48, 32, 24, 18))
    workspace = Workspace(service.folder("done"))
    check = Check(name="frames", passed=True, value=5, limit=5, message="5 frames")
    record = Record(
        job_id="done",
        status="done",
        plan=JobPlan.model_validate_json(job.plan),
        video=str(video),
        verification=Verification(checks=(check,)),
    )
    save_json(workspace.record, record)
    service.store.finish(job, {"video": str(video), "checks": [check.model_dump(mode="json")]})
    return video


def test_the_files_of_a_finished_job(client, done):
    job = client.get("/api/jobs/done").json()
    assert (job["state"], job["fraction"], job["verification"][0]["sentence"]) == ("done", 1.0, "5 frames")
    whole = client.get(job["links"]["video"])
    assert (whole.content, whole.headers["content-type"]) == (done.read_bytes(), "video/mp4")
    part = client.get(job["links"]["video"], headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    again = client.get(job["links"]["video"], headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    saved = client.get(job["links"]["video"] + "?download=1")
    assert saved.headers["content-disposition"] == 'attachment; filename="done.mp4"'
    for part, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        assert Image.open(io.BytesIO(client.get(job["links"][part]).content)).format == kind
    assert client.get(job["links"]["record"]).json()["plan"]["seed"] == 5
    done.unlink()
    refusal(client.get(job["links"]["video"]), 404, "job_not_found")


def test_a_video_is_rated_with_the_job_and_in_the_insights(client, done, submit, service, monkeypatch, tmp_path):
    monkeypatch.setenv("WAN2_I2V_INSIGHTS", str(tmp_path / "insights.db"))
    seen = service.store.last_event()
    for rating in (2, 5):
        assert client.post("/api/jobs/done/rating", json={"rating": rating}).json()["rating"] == rating
    assert client.get("/api/jobs/done").json()["rating"] == 5
    assert [event.data for event in service.store.events(seen)] == [{"rating": 2}, {"rating": 5}]
    with Book() as book:
        assert [run.rating for run in book.runs()] == [5]
    for rating in (0, 6, 3.5, "4", None, True, False):
        refusal(client.post("/api/jobs/done/rating", json={"rating": rating}), 422, "invalid_request", "rating")
    submit("waiting")
    refusal(client.post("/api/jobs/waiting/rating", json={"rating": 4}), 409, "job_conflict")
    refusal(client.post("/api/jobs/nobody/rating", json={"rating": 4}), 404, "job_not_found")


def test_the_preview_is_what_the_worker_left(client, submit, service):
    submit("a")
    refusal(client.get("/api/jobs/a/preview"), 404, "not_found")
    refusal(client.get("/api/jobs/a/video"), 404, "not_found")
    service.lay_out(service.store.get("a"))
    service.worker._show("a", png(8, 8))
    assert client.get("/api/jobs/a/preview").content == png(8, 8)


def test_progress_counts_stages_by_their_share(submit, service):
    submit("a")
    (job,) = service.store.claim("w", 1, 60)
    stages = ("preprocess", "text", "image", "denoise high", "decode", "verify", "finish")
    seen = [progress_of(job, {"stage": stage, "done": 0, "total": 2}, job.started_at + 10) for stage in stages]
    fractions = [one["fraction"] for one in seen]
    assert fractions == sorted(fractions)
    assert seen[0]["eta_seconds"] is None
    late = seen[4]
    assert late["eta_seconds"] == pytest.approx(10 * (1 - late["fraction"]) / late["fraction"], rel=0.01)


def test_info_presets_models_and_schema(client, service):
    info = client.get("/api/info").json()
    assert info["device"]["kind"] == "cpu"
    assert (info["needs_token"], info["model"]) == (False, service.model.name)
    presets = {preset["name"]: preset for preset in client.get("/api/presets").json()["presets"]}
    assert presets["fireworks"]["settings"] == {"num_frames": 120}
    models = {model["name"]: model for model in client.get("/api/models").json()["models"]}
    assert models["mini"]["present"]
    assert models[info["model"]]["serving"]
    fields = client.get("/api/schema").json()["properties"]
    assert fields["num_frames"]["default"] == 72
    assert not {"image", "output", "model"} & fields.keys()


def test_sessions(client_of):
    client = client_of(token="secret")
    refusal(client.post("/api/session", json={"token": "no"}), 401, "unauthorized")
    assert client.get("/api/info").status_code == 401
    answer = client.post("/api/session", json={"token": "secret"})
    assert (answer.status_code, answer.content) == (204, b"")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "secret" not in cookie
    assert client.get("/api/info").json()["needs_token"] is True
    refusal(client.post("/api/plan", json={}), 403, "forbidden")
    refusal(client.post("/api/plan", json={}, headers={"Sec-Fetch-Site": "same-site"}), 403, "forbidden")
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://127.0.0.1"}):
        assert client.post("/api/plan", json={}, headers=headers).status_code == 422
    client.delete("/api/session")
    assert client.get("/api/info").status_code == 401
    tampered = re.sub(r"=(\d+)", lambda match: f"={int(match[1]) + 9}", cookie.split(";")[0])
    assert client.get("/api/info", headers={"Cookie": tampered}).status_code == 401


def test_metrics_count(client, submit):
    submit()
    text = client.get("/metrics").text
    assert 'wan2_i2v_jobs{state="queued"} 1.0' in text
    assert re.search(r'wan2_i2v_http_requests_total\{method="POST",status="201"\} 2.0', text)
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_fault_of_the_server_tells_clients_nothing(client, service, monkeypatch, caplog):
    def broken(job_id):
        raise RuntimeError("secret inside")

    monkeypatch.setattr(service.store, "get", broken)
    message = refusal(client.get("/api/jobs/a"), 500, "error")
    assert "secret" not in message
    assert "secret inside" in caplog.text


def test_a_database_that_does_not_answer(client, submit, service, monkeypatch):
    submit("a")
    impatient = Store(f"sqlite:///{service.jobs}/queue.db", lock_wait=0.1)
    monkeypatch.setattr(service, "store", impatient)
    with contextlib.closing(sqlite3.connect(service.jobs / "queue.db")) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        answer = submit("b")
        refusal(answer, 503, "store_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/jobs/a").status_code == 200
    impatient.close()
    assert not service.folder("b").exists()
