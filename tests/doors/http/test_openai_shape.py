"""OpenAI's video objects as data."""

from __future__ import annotations

import pytest
import stored

from wan2_i2v.doors.http import openai_shape as shape
from wan2_i2v.jobs.state import STATES

REQUIRED = "id object created_at status model progress seconds size error prompt completed_at expires_at"


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_video_object(state, tmp_path):
    job = stored.job_in(state, tmp_path)
    told = shape.video(job, stored.record() if state == "done" else None, 0.4567)
    assert set(REQUIRED.split()) <= set(told)
    assert told["status"] in ("queued", "in_progress", "completed", "failed")
    assert (told["created_at"], told["seconds"], told["size"]) == (1000, "0.208333", "64x48")
    assert told["progress"] == (100 if state == "done" else 45)
    assert (told["error"] is not None) == (told["status"] == "failed")
    assert (told["completed_at"] is not None) == (state == "done")


def test_failures_say_which(tmp_path):
    for state in ("cancelled", "timed_out", "set_aside"):
        assert shape.video(stored.job_in(state, tmp_path), None, 0)["error"]["code"] == state
    failed = shape.video(stored.job_in("failed", tmp_path), None, 0)
    assert failed["error"] == {"code": "error", "message": "it broke"}


def test_a_finished_video_has_what_other_servers_add(tmp_path):
    told = shape.video(stored.job_in("done", tmp_path), stored.record(), 1)
    assert (told["file_name"], told["media_type"], told["inference_time_s"]) == ("j.mp4", "video/mp4", 3.5)
    assert (told["fps"], told["num_frames"], told["stage_durations"]) == (24, 5, {"decode": 1.5})
    assert told["url"] == "/v1/videos/j/content"


@pytest.mark.parametrize(("eta", "expected"), [(None, 1000), (0.1, 250), (4, 2000), (900, 5000)])
def test_how_long_to_wait_before_asking_again(eta, expected, tmp_path):
    assert shape.poll_after_ms(stored.job_in("running", tmp_path), eta) == expected
    assert shape.poll_after_ms(stored.job_in("queued", tmp_path), 60) == 1000


def test_pages_errors_and_the_rest():
    assert shape.listing([], more=False)["last_id"] is None
    page = shape.listing([{"id": "a"}, {"id": "b"}], more=True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", True)
    assert shape.deleted("a") == {"id": "a", "object": "video.deleted", "deleted": True}
    assert shape.model("mini", 5.5)["created"] == 5
    for status, kind in ((401, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")):
        error = shape.Refusal.of(status, "c", "width", "m").error
        assert (error.type, error.code, error.param, error.message) == (kind, "c", "width", "m")
