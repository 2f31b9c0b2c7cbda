"""Best-of and retries on a tiny checkpoint, whose clips are noise and so always fail their checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wan2_i2v import acting, api, pipeline, remedies
from wan2_i2v.errors import Cancelled, InvalidRequest
from wan2_i2v.events import Finished, Log, Started
from wan2_i2v.media import metadata
from wan2_i2v.record import Check, Margin, Verification
from wan2_i2v.request import GenerateRequest


@pytest.fixture(autouse=True)
def place(boat_folder: Path) -> Path:
    return boat_folder


def check(name="noise", *, passed=True, value=0.5, limit=1.0, remedy=None, state="judged"):
    message = f"{name} is {value}"
    margin = Margin(good=0.1, bad=2.0)
    return Check(
        name=name, passed=passed, value=value, limit=limit, message=message, state=state, margin=margin, remedy=remedy
    )


def verdict(*checks):
    return Verification(checks=checks)


# ---- deciding


def test_the_remedy_of_the_gravest_failure_is_taken():
    mouth = check("mouth", passed=False, remedy="mouth-negative")
    noise = check("noise", passed=False, remedy="official-recipe")
    assert remedies.remedy_of(verdict(mouth)) == "mouth-negative"
    assert remedies.remedy_of(verdict(mouth, noise)) == "official-recipe"
    assert remedies.remedy_of(verdict(check("first_frame", passed=False))) == "next-seed"


def test_failures_weigh_more_than_doubts_and_doubts_more_than_nearness():
    good, near = verdict(check(value=0.1)), verdict(check(value=0.9))
    doubtful = verdict(check(value=0.1, state="unsure"))
    failed = verdict(check(passed=False, value=1.1))
    scores = [remedies.score(one) for one in (good, near, failed)]
    assert scores == sorted(scores) and scores[0] < scores[1]
    assert remedies.score(good) < remedies.score(doubtful) < remedies.score(failed)


def test_what_each_remedy_changes():
    request = GenerateRequest(image="a.png", seed=5, num_inference_steps=4, allow_speech=True)
    mouth = remedies.remedied(request, "mouth-negative", 9, ())
    assert (mouth.nag, mouth.nag_scale, mouth.allow_speech, mouth.seed) == (True, 16.5, False, 5)
    again = remedies.remedied(mouth, "mouth-negative", 9, ["mouth-negative"])
    assert (again.nag_scale, again.seed) == (24.75, 9)
    guided = remedies.remedied(request, "stronger-guidance", 9, ())
    assert guided.guidance_scale_high == 3.5
    assert remedies.remedied(guided, "stronger-guidance", 9, ()).guidance_scale_high == pytest.approx(4.9)
    official = remedies.remedied(request, "official-recipe", 9, ())
    assert (official.recipe, official.num_inference_steps, official.seed) == ("official", None, 5)
    assert remedies.remedied(request, "next-seed", 9, ()) == request.replaced(seed=9)
    assert remedies.told(request, mouth) == "allow_speech True → False, nag_scale 11 → 16.5"


@pytest.mark.parametrize("fields", [{"best_of": 0}, {"retries": -1}, {"retries": 99}, {"time_budget": 0}])
def test_numbers_that_cannot_be(fields):
    with pytest.raises(InvalidRequest):
        GenerateRequest(image="a.png", **fields)


# ---- doing


def test_the_best_of_two_is_the_result_and_all_is_kept(ask, place):
    events = []
    record = api.generate(ask(best_of=2), on_event=events.append)
    assert [one.seed for one in record.attempts] == [3, 4]
    (best,) = [one for one in record.attempts if one.chosen]
    assert best.score == min(one.score for one in record.attempts)
    assert all(Path(one.video).is_file() for one in record.attempts)
    inside = metadata.read(Path(record.video))
    assert inside["plan"] == record.plan.content()
    assert [one["chosen"] for one in inside["attempts"]] == [one.chosen for one in record.attempts]
    assert json.loads(Path(f"{record.video}.json").read_text())["attempts"]
    stages = [event.stage for event in events if isinstance(event, Started)]
    assert stages.count("text") == 2 and stages.index("text") + 1 == len(stages) - stages[::-1].index("text") - 1
    assert {event.job_id for event in events} == {"boat-3"}
    assert sum(isinstance(event, Finished) for event in events) == 1
    # The same request again finds its result; nothing is made anew.
    again = []
    assert api.generate(ask(best_of=2), on_event=again.append) == record
    assert not [event for event in again if isinstance(event, Started)]


def test_a_failed_clip_is_made_again_with_the_remedy_that_its_check_names(ask):
    events = []
    record = api.generate(ask(retries=1), on_event=events.append)
    first, second = record.attempts
    assert not first.passed and first.remedy is None
    named = {check.remedy for check in api.find_job("boat-3").attempt(1).load_record().verification.failures}
    assert second.remedy in {*named, "next-seed"}
    assert second.changes
    assert any(isinstance(event, Log) and event.message.startswith("attempt 2") for event in events)
    stored = api.find_job("boat-3").attempt(2).load_plan()
    if second.remedy == "official-recipe":
        assert (stored.recipe, stored.sampler) == ("official", "unipc")
    assert record.verification is not None and not record.verification.passed


def test_a_time_budget_ends_the_attempts(ask):
    record = api.generate(ask(best_of=3, retries=3, time_budget=0.001))
    assert len(record.attempts) == 1
    assert record.attempts[0].chosen


def test_a_plain_job_beside_attempts_runs_in_the_same_pass(ask, monkeypatch):
    sizes = []
    inner = pipeline.run

    def counting(jobs, **how):
        sizes.append(len(jobs))
        return inner(jobs, **how)

    monkeypatch.setattr(acting.pipeline, "run", counting)
    one, two = api.generate_many([ask(best_of=2), ask(seed=8)])
    assert sizes == [3]
    assert (len(one.attempts), len(two.attempts)) == (2, 0)
    assert one.job_id == "boat-3" and two.job_id == "boat-8"


def test_a_stopped_job_goes_on_with_its_attempts(ask):
    calls = iter([False] * 9)
    with pytest.raises(Cancelled):
        api.generate(ask(best_of=2), cancelled=lambda: next(calls, True))
    events = []
    record = api.resume("boat-3", on_event=events.append)
    assert [one.seed for one in record.attempts] == [3, 4]
    whole = api.generate(ask(best_of=2, job_id="whole"))
    assert Path(whole.attempts[1].video).stat().st_size == Path(record.attempts[1].video).stat().st_size


def test_an_attempt_that_cannot_be_planned_ends_the_attempts(ask, monkeypatch):
    def refuse(*arguments, **named):
        raise InvalidRequest("guidance_scale_high", 3.5, "less")

    events = []
    inner = acting._drafted
    monkeypatch.setattr(
        acting, "_drafted", lambda request, base: inner(request, base) if request.seed == 3 else refuse()
    )
    record = api.generate(ask(best_of=2), on_event=events.append)
    assert len(record.attempts) == 1
    assert any(isinstance(event, Log) and "no further attempt" in event.message for event in events)
