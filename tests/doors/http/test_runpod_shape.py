"""RunPod's bodies and replies as data."""

from __future__ import annotations

import re

import pytest
import stored
from pydantic import ValidationError

from wan2_i2v.doors.http import runpod
from wan2_i2v.doors.http import runpod_shape as shape
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.jobs.job import NewJob, StoredEvent
from wan2_i2v.jobs.state import STATES
from wan2_i2v.jobs.store import Store

S3 = {"accessId": "k", "accessSecret": "s", "bucketName": "b", "endpointUrl": "https://s3.example.com"}


def body(**top):
    return shape.RunBody(**({"input": {"image": "boat.png", "prompt": "x"}} | top))


def test_a_plain_body_asks_for_nothing_special():
    order = shape.order_of(body())
    assert (order.fields.image, order.fields.request) == ("boat.png", {"prompt": "x"})
    assert (order.priority, order.time_to_live, order.execution_timeout) == (0, None, None)
    assert order.options == {"door": "runpod"}
    assert re.fullmatch(r"[0-9a-f-]{36}-u1", order.job_id)
    assert shape.order_of(body(), "sync-").job_id.startswith("sync-")


def test_policy_webhook_bucket_and_id():
    policy = {"executionTimeout": 60_000, "ttl": 10_000, "lowPriority": True}
    given = {"image": "p", "job_id": "mine", "return_base64": "true"}
    order = shape.order_of(body(input=given, webhook="http://h/w", policy=policy, s3Config=S3))
    assert (order.job_id, order.priority, order.time_to_live, order.execution_timeout) == ("mine", -1, 10, 60)
    assert order.options == {"door": "runpod", "webhook": "http://h/w", "return_video": True, "s3": S3}
    assert "'s'" not in repr(body(s3Config=S3))
    assert shape.order_of(body(input=given | {"webhook": "http://h/i"})).options["webhook"] == "http://h/i"


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": {"executionTimeout": 5000}},
        {"policy": {"ttl": 9999}},
        {"policy": {"lowPrio": True}},
        {"s3Config": {"accessId": "k"}},
        {"s3Config": S3 | {"endpointUrl": "file:///etc/passwd"}},
        {"webook": "http://h"},
        {"input": "x"},
    ],
)
def test_bodies_that_are_refused(wrong):
    with pytest.raises(ValidationError):
        body(**wrong)


def test_two_webhooks_are_refused():
    with pytest.raises(InvalidRequest, match="webhook"):
        shape.order_of(body(input={"image": "p", "webhook": "http://a"}, webhook="http://b"))


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_reply(state, tmp_path):
    job = stored.job_in(state, tmp_path)
    result = shape.Result(stored.record(), "http://h/v.mp4") if state == "done" else None
    reply = shape.status(job, "worker-cpu", result)
    assert (reply["id"], reply["status"]) == ("j", shape.STATUS[state])
    if state == "queued":
        assert "delayTime" not in reply
        return
    assert (reply["delayTime"], reply["workerId"]) == (2000, "worker-cpu")
    if state == "running":
        assert reply["output"] == {"stage": "denoise high", "done": 1, "total": 4}
    elif state == "done":
        assert reply["executionTime"] == 3500
        assert "error" not in reply
    else:
        assert reply["error"]
        assert reply["output"] == {
            "jobId": "j",
            "result": None,
            "status": reply["status"],
            "message": reply["error"],
        }


def test_the_output_has_all_that_the_old_container_gave(tmp_path):
    job = stored.job_in("done", tmp_path)
    output = shape.status(job, "w", shape.Result(stored.record(), "http://h/v.mp4"))["output"]
    documented = "jobId result status message execution_time video_url width height num_frames fps seed verification"
    assert list(output) == documented.split()
    assert (output["result"], output["status"], output["execution_time"]) == ("/o/j.mp4", "DONE", 3.5)
    assert (output["width"], output["height"], output["num_frames"], output["seed"]) == (64, 48, 5, 7)
    assert output["verification"]["passed"] is True
    more = shape.output("j", shape.Result(stored.record(passed=False), "u", "QUJD", "no bucket"), None)
    assert (more["video"], more["upload_error"], more["verification"]["passed"]) == ("QUJD", "no bucket", False)
    assert "did not pass" in more["message"]
    unseen = stored.record().model_copy(update={"verification": None})
    assert "not looked at" in shape.message_of(unseen)


def test_a_video_on_its_way_to_the_bucket_is_in_progress(tmp_path):
    reply = shape.uploading(stored.job_in("done", tmp_path), "w")
    assert (reply["status"], reply["output"]["stage"]) == ("IN_PROGRESS", "upload")


def test_a_stream_of_a_cancelled_job_ends(tmp_path):
    job = stored.job_in("cancelled", tmp_path)
    reply = shape.status(job, "w", None)
    assert reply["status"] == "CANCELLED"
    streamed = shape.stream(job, reply, [])
    assert (streamed["status"], streamed["stream"]) == ("FAILED", [])
    assert "cancelled" in streamed["error"]


def test_chunks_are_progress_and_then_the_output():
    events = [
        StoredEvent(1, "j", "state", {"state": "running"}, 0.0),
        StoredEvent(2, "j", "progress", {"stage": "text", "done": 0, "total": 1}, 0.0),
        StoredEvent(3, "j", "preview", {"step": 1}, 0.0),
    ]
    assert shape.chunks(events, None) == [{"output": {"stage": "text", "done": 0, "total": 1}}]
    assert shape.chunks([], {"status": "DONE"}) == [{"output": {"status": "DONE"}}]


def test_health_and_refusals():
    counts = dict.fromkeys(STATES, 1)
    assert shape.health(counts, 2, busy=True) == {
        "jobs": {"completed": 1, "failed": 3, "inProgress": 1, "inQueue": 1, "retried": 2},
        "workers": {"idle": 0, "running": 1},
    }
    refusal = shape.Refusal.of("invalid_request", "width", "no").model_dump()
    assert (refusal["status"], refusal["error"], refusal["output"]["status"]) == ("FAILED", "no", "FAILED")


def test_a_long_stream_ends_with_the_output(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/long.db")
    store.submit(NewJob("j", "d", "{}", stored.PLAN.model_dump_json()))
    job = store.claim("w", 1, 60)[0]
    for done in range(runpod.MAX_CHUNKS + 5):
        store.progress(job, "progress", {"stage": "denoise high", "done": done, "total": 300})
    streamed = runpod.Streamed()
    answers = [streamed.take(store, "j", {"status": "DONE"}) for _ in range(3)]
    store.close()
    told = [chunk["output"] for answer in answers for chunk in answer]
    assert [chunk.get("done") for chunk in told] == [*range(runpod.MAX_CHUNKS + 5), None]
    assert answers[2] == []
