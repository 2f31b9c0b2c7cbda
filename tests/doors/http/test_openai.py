"""The real `openai` client, sync and async, against a real server that computes."""

from __future__ import annotations

import asyncio
import io
import runpy
from pathlib import Path

import openai
import pytest
import requests
from PIL import Image

from serving import TOKEN, bearer

FIELDS = {"num_frames": 5, "fps": 16, "num_inference_steps": 2, "seed": 3}
SIZE = "64x64"
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def made(client, photo):
    """A finished video, made by `create_and_poll` from an uploaded file."""
    with pytest.warns(DeprecationWarning):
        video = client.videos.create_and_poll(
            prompt="pan left", input_reference=("p.png", photo), size=SIZE, model="sora-2", extra_body=FIELDS
        )
    assert video.status == "completed", video.error
    return video


def test_create_and_poll(made):
    assert (made.object, made.progress, made.size, made.seconds) == ("video", 100, SIZE, "0.3125")
    assert (made.model, made.prompt, made.error) == ("mini", "pan left", None)
    assert (made.num_frames, made.fps, made.seed, made.media_type) == (5, 16, 3, "video/mp4")
    assert made.completed_at >= made.created_at


def test_polling_waits_as_long_as_the_server_says(client, made, photo, served):
    with pytest.warns(DeprecationWarning):
        raw = client.videos.with_raw_response.create(
            prompt="x", input_reference=("p.png", photo), size=SIZE, extra_body=FIELDS | {"num_inference_steps": 150}
        )
    assert 250 <= int(raw.headers["openai-poll-after-ms"]) <= 5000
    running = raw.parse()
    assert running.status in ("queued", "in_progress")
    content = requests.get(f"{served.url}/v1/videos/{running.id}/content", headers=bearer(), timeout=30)
    assert (content.status_code, content.json()["error"]["code"]) == (404, "video_not_ready")
    with pytest.warns(DeprecationWarning):
        assert client.videos.delete(running.id).deleted is True
        # Deleting is cancelling, and whoever still polls gets an end and not an exception.
        ended = client.videos.poll(running.id)
    assert (ended.status, ended.error.code) == ("failed", "cancelled")
    with pytest.warns(DeprecationWarning), pytest.raises(openai.UnprocessableEntityError) as refusal:
        client.videos.download_content(running.id)
    assert refusal.value.code == "generation_failed"
    with pytest.warns(DeprecationWarning):
        client.videos.delete(running.id)
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(running.id)


def test_download(client, made, served, tmp_path):
    with pytest.warns(DeprecationWarning):
        data = client.videos.download_content(made.id).read()
        for variant, kind, size in (("thumbnail", "WEBP", (64, 64)), ("spritesheet", "JPEG", (256, 128))):
            with Image.open(io.BytesIO(client.videos.download_content(made.id, variant=variant).read())) as still:
                assert (still.format, still.size) == (kind, size)
    assert data == (served.service.output / made.file_name).read_bytes()
    url, headers = f"{served.url}/v1/videos/{made.id}/content", bearer() | {"Range": "bytes=4-7"}
    part = requests.get(url, headers=headers, timeout=30)
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, b"ftyp", "video/mp4")
    assert requests.get(url, headers=bearer(), params={"variant": "0"}, timeout=30).content == data


def test_pages(client, made, served):
    with pytest.warns(DeprecationWarning):
        ids = [video.id for video in client.videos.list(limit=1)]
        oldest = client.videos.list(limit=100, order="asc").data[0]
    assert made.id in ids
    assert len(ids) == len(set(ids)) == len(served.service.store.page(limit=100))
    assert oldest.id == ids[-1]


def test_sync_gives_the_file_and_the_same_submission_is_one_video(made, photo, served):
    # The key of the video that was made: the answer is that video, without computing it again.
    fields = {**{name: str(value) for name, value in FIELDS.items()}, "prompt": "pan left", "size": SIZE}
    again = requests.post(
        f"{served.url}/v1/videos/sync",
        headers=bearer() | {"Idempotency-Key": made.id},
        data=fields,
        files={"input_reference": ("p.png", photo)},
        timeout=600,
    )
    assert (again.status_code, again.headers["content-type"]) == (200, "video/mp4")
    assert again.content == (served.service.output / made.file_name).read_bytes()
    assert (again.headers["x-request-id"], again.headers["x-model"]) == (made.id, "mini")
    assert float(again.headers["x-inference-time-s"]) > 0
    assert "decode" in again.headers["x-stage-durations"]


def test_a_picture_by_url_in_a_form_and_in_json(client, made, photo_uri):
    """The client cannot send input_reference={"image_url": …} itself (trap 4); through extra_body it can."""
    with pytest.warns(DeprecationWarning), pytest.raises(RuntimeError):
        client.videos.create(prompt="x", input_reference={"image_url": photo_uri})
    body = FIELDS | {"input_reference": {"image_url": photo_uri}}
    with pytest.warns(DeprecationWarning):
        form = client.videos.create(prompt="pan left", size=SIZE, extra_body=body)
    json = client.post("/videos", body={"prompt": "pan left", "size": SIZE, **body}, cast_to=openai.types.Video)
    for video in (form, json):
        assert (video.num_frames, video.seed, video.size) == (5, 3, SIZE)
        with pytest.warns(DeprecationWarning):
            client.videos.delete(video.id)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"extra_body": {"num_frame": 5}}, "num_frame"),
        ({"size": "huge"}, "size"),
        ({"size": "64x64", "extra_body": {"num_inference_steps": 0}}, "num_inference_steps"),
        ({"extra_body": {"lora": '{"path": "/x/y.safetensors"}'}}, "lora"),
        ({"extra_body": {"loras": ["nowhere"]}}, "loras"),
        ({"input_reference": None}, "input_reference"),
        ({"extra_body": {"image_url": "https://example.com/p.png"}}, "input_reference"),
    ],
)
def test_refusals_are_the_clients_own_exceptions(client, photo, fields, param, served):
    before = len(served.service.store.page(limit=100))
    given = {"input_reference": ("p.png", photo)} | fields
    if given["input_reference"] is None:
        del given["input_reference"]
    with pytest.warns(DeprecationWarning), pytest.raises(openai.UnprocessableEntityError) as refusal:
        client.videos.create(prompt="x", **given)
    assert (refusal.value.param, refusal.value.type) == (param, "invalid_request_error")
    assert param in refusal.value.message
    assert len(served.service.store.page(limit=100)) == before


def test_other_refusals(client, served, photo):
    url = f"{served.url}/v1/videos"
    for answer in (
        requests.post(url, headers=bearer(), data="no json", timeout=30),
        requests.post(url, headers=bearer(), json=[1], timeout=30),
        requests.post(url, headers=bearer(), files={"mask": ("p.png", photo)}, timeout=30),
        requests.post(url, headers=bearer() | {"Idempotency-Key": "../x"}, json={}, timeout=30),
        requests.get(url, headers=bearer(), params={"limit": 0}, timeout=30),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["message"]
    stranger = client.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError, match="mini"):
        client.models.retrieve("sora-2")


def test_other_calls_of_the_client_are_not_offered_and_say_so(client, photo):
    """Remix, edit and extend; of the latter two the client cannot send a video's id itself (trap 4)."""
    with pytest.warns(DeprecationWarning):
        for call in (
            lambda: client.videos.remix("v", prompt="x"),
            lambda: client.videos.edit(prompt="x", video=("v.mp4", photo)),
            lambda: client.videos.extend(prompt="x", seconds="4", video=("v.mp4", photo)),
        ):
            with pytest.raises(openai.APIStatusError) as refusal:
                call()
            assert refusal.value.status_code in (404, 405)
            assert refusal.value.code in ("not_found", "method_not_allowed")
        with pytest.raises(RuntimeError):
            client.videos.edit(prompt="x", video={"id": "v"})


def test_models(client):
    assert [model.id for model in client.models.list()] == ["mini"]
    assert client.models.retrieve("mini").owned_by == "wan2-i2v"


async def drive(served, made, photo):
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        found = await client.videos.retrieve(made.id)
        polled = await client.videos.poll(made.id)
        data = await client.videos.download_content(made.id)
        other = await client.videos.create(
            prompt="x", input_reference=("p.png", photo), size=SIZE, extra_body=FIELDS, seconds="4"
        )
        gone = await client.videos.delete(other.id)
        page = [video.id async for video in client.videos.list(limit=2)]
        return found, polled, data.read(), other, gone, page


def test_the_async_client(served, made, photo):
    with pytest.warns(DeprecationWarning):
        found, polled, data, other, gone, page = asyncio.run(drive(served, made, photo))
    assert (found.status, polled.status, gone.deleted) == ("completed", "completed", True)
    assert data[4:8] == b"ftyp"
    assert other.num_frames == 5
    assert made.id in page


def test_a_failed_video_is_an_answer_and_not_an_error(client, made, photo, served):
    """Trap 5: a GET that answers a failed video with 4xx or 5xx makes the client raise, or retry."""
    with pytest.warns(DeprecationWarning):
        asked = {"prompt": "x", "input_reference": ("p.png", photo), "size": SIZE}
        slow = client.videos.create(**asked, extra_body=FIELDS | {"num_inference_steps": 150})
        served.until(slow.id, "running")
        doomed = client.videos.create(**asked, extra_body=FIELDS)
        served.service.folder(doomed.id).write_text("in the way of its folder")
        client.videos.delete(slow.id)
        failed = client.videos.poll(doomed.id)
    assert (failed.status, failed.error.code) == ("failed", "error")


def test_the_example(served, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{served.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", TOKEN)
    monkeypatch.setattr("sys.argv", ["openai_client.py"])
    with pytest.warns(DeprecationWarning):
        runpy.run_path(str(EXAMPLES / "openai_client.py"), run_name="__main__")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" completed")
    assert second.endswith(".mp4 64x64 0.3125 s")
    assert (tmp_path / second.split()[0]).read_bytes()[4:8] == b"ftyp"
