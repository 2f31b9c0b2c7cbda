"""The Python door, on a tiny checkpoint: plans, jobs that go on, job ids, locks and failures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from wan2_i2v import api, errors
from wan2_i2v.errors import Cancelled, CheckpointError, InvalidImage, InvalidRequest, JobNotFound, OutputError
from wan2_i2v.events import Event, Progress, Started


@pytest.fixture(autouse=True)
def place(boat_folder: Path) -> Path:
    return boat_folder


def stages(events: list[Event]) -> set[str]:
    return {event.stage for event in events if isinstance(event, Started)}


def test_a_plan_is_complete_and_writes_nothing(ask, place):
    before = sorted(place.rglob("*"))
    planned = api.plan(ask())
    assert (planned.job_id, planned.seed, planned.num_frames) == ("boat-3", 3, 5)
    assert Path(planned.image.path) == place / "input" / "boat.png"
    assert sorted(place.rglob("*")) == before


def test_a_seed_is_drawn_when_none_is_given(ask):
    seeds = {api.plan(ask(seed=None)).seed for _ in range(3)}
    assert len(seeds) > 1
    assert all(0 <= seed < api.MAX_DRAWN_SEED for seed in seeds)


def test_the_seed_0_is_a_seed(ask):
    assert api.plan(ask(seed=0)).seed == 0


def test_generate_makes_a_video_and_finds_it_again(ask, place):
    events: list[Event] = []
    record = api.generate(ask(), on_event=events.append)
    assert record.status == "done"
    assert record.verification is not None
    assert Path(record.video) == place / "output" / "boat-3.mp4"
    assert "denoise high" in stages(events)

    again: list[Event] = []
    assert api.generate(ask(), on_event=again.append) == record
    assert stages(again) == set()


def test_a_different_request_gets_another_default_id(ask):
    first = api.generate(ask())
    second = api.generate(ask(prompt="another"))
    assert [first.job_id, second.job_id] == ["boat-3", "boat-3-2"]
    assert first.video != second.video
    assert api.plan(ask(prompt="a third")).job_id == "boat-3-3"


def test_the_same_request_for_another_place_is_another_job(ask, place):
    first = api.generate(ask())
    second = api.generate(ask(output="elsewhere/clip.mp4"))
    assert Path(second.video) == place / "elsewhere" / "clip.mp4"
    assert second.job_id != first.job_id
    assert Path(first.video).read_bytes() == Path(second.video).read_bytes()


def test_a_job_id_of_a_different_job_is_refused_or_renamed(ask):
    api.generate(ask(job_id="mine"))
    assert api.generate(ask(job_id="mine")).job_id == "mine"
    with pytest.raises(InvalidRequest, match="job_id: got 'mine'"):
        api.plan(ask(job_id="mine", prompt="another"))
    (renamed,) = api.prepare([ask(job_id="mine", prompt="another")], rename=True)
    assert renamed.plan.job_id == "mine-2"


def test_equal_names_in_one_batch_are_told_apart(ask):
    shutil.copytree("input", "other")
    orders = api.prepare([ask(), ask(prompt="b"), ask(prompt="c")])
    assert [order.plan.job_id for order in orders] == ["boat-3", "boat-3-2", "boat-3-3"]


def test_prepare_keeps_good_requests_beside_bad_ones(ask):
    good, missing, bad_model = api.prepare([ask(), ask(image="none.png"), ask(model="no-such-model")])
    assert isinstance(good, api.Order)
    assert isinstance(missing, InvalidImage)
    assert isinstance(bad_model, CheckpointError)
    with pytest.raises(InvalidImage):
        api.generate_many([ask(), ask(image="none.png")])
    assert not Path("output").exists()


def test_a_failing_job_is_a_record_and_an_error(ask):
    shutil.copyfile("input/boat.png", "input/gone.png")

    def remove(event: Event) -> None:
        Path("input/gone.png").unlink(missing_ok=True)

    good, bad = api.generate_many([ask(), ask(image="gone.png")], on_event=remove)
    assert (good.status, bad.status) == ("done", "failed")
    assert bad.error["code"] == "invalid_image"

    shutil.copyfile("input/boat.png", "input/gone.png")
    with pytest.raises(InvalidImage) as caught:
        api.generate(ask(image="gone.png", seed=4), on_event=remove)
    assert caught.value.field == "image"


def test_an_existing_video_is_not_replaced(ask, place):
    (place / "output").mkdir()
    (place / "output" / "boat-3.mp4").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        api.generate(ask())
    assert (place / "output" / "boat-3.mp4").read_text() == "mine"
    assert api.generate(ask(overwrite=True)).status == "done"


def test_a_cancelled_job_is_resumed_by_id_and_by_folder(ask):
    whole = api.generate(ask(job_id="whole"))
    for name, job in (("a", "a"), ("b", Path("output/jobs/b"))):
        steps: list[Progress] = []

        def on_event(event: Event, steps: list[Progress] = steps) -> None:
            if isinstance(event, Progress) and event.stage.startswith("denoise"):
                steps.append(event)

        with pytest.raises(Cancelled, match="wan2-i2v resume"):
            api.generate(ask(job_id=name), on_event=on_event, cancelled=lambda steps=steps: len(steps) == 1)
        events: list[Event] = []
        record = api.resume(job, on_event=events.append)
        assert "text" not in stages(events)
        assert Path(record.video).read_bytes() == Path(whole.video).read_bytes()


def test_unknown_jobs_are_not_found(ask):
    with pytest.raises(JobNotFound, match="There are no jobs"):
        api.resume("boat-3")
    api.generate(ask())
    with pytest.raises(JobNotFound, match="Did you mean 'boat-3'"):
        api.resume("boat-33")


def test_a_job_is_not_resumed_with_other_weights(ask, checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    with pytest.raises(Cancelled):
        api.generate(ask(model=str(copy)), cancelled=lambda: True)
    weights = next((copy / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InvalidRequest, match="weights that job boat-3 was begun with"):
        api.resume("boat-3")


def test_a_damaged_plan_is_an_error_of_ours(ask):
    api.generate(ask())
    Path("output/jobs/boat-3/plan.json").write_text('{"job_id": "boat-3"')
    with pytest.raises(errors.Wan2I2VError, match=r"plan\.json is damaged"):
        api.resume("boat-3")


def test_a_job_runs_in_one_process_at_a_time(ask):
    with pytest.raises(Cancelled):
        api.generate(ask(), cancelled=lambda: True)
    with FileLock("output/jobs/boat-3/.lock"), pytest.raises(InvalidRequest, match="no other process"):
        api.resume("boat-3")
    assert api.resume("boat-3").status == "done"


def test_errors_survive_the_record():
    given = InvalidImage("image", "x.png", "a picture", "Save it anew.")
    back = errors.from_dict(given.to_dict())
    assert type(back) is InvalidImage
    assert (str(back), back.field, back.to_dict()["code"]) == (str(given), "image", "invalid_image")
    assert type(errors.from_dict({"code": "of a later version", "message": "m"})) is errors.Wan2I2VError
