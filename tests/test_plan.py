"""Every accepted request becomes a plan whose numbers agree; every refusal names what is wrong."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plans
from wan2_i2v.errors import DoesNotFit, InvalidRequest
from wan2_i2v.geometry import choose_size, crop_loss
from wan2_i2v.plan import JobPlan, default_job_id, plan_job
from wan2_i2v.presets import MOUTH_NEGATIVE, RECIPES
from wan2_i2v.request import MAX_SIDE, GenerateRequest
from wan2_i2v.schedule import PASSES, Pass, expert_at

MERGED = plans.row(name="merged", boundary_ratio=None)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


REQUESTS = st.fixed_dictionaries(
    {
        "image": st.just("folder/a b.png"),
        "prompt": st.text(max_size=20),
        "negative_prompt": st.sampled_from(["", "talking"]),
        "width": maybe(st.integers(16, MAX_SIDE)),
        "height": maybe(st.integers(16, MAX_SIDE)),
        "num_frames": st.integers(1, 1025),
        "fps": st.sampled_from([1, 16, 23.976, 24, 59.94, 240]),
        "seed": maybe(st.integers(0, 2**63 - 1)),
        "recipe": maybe(st.sampled_from(sorted(RECIPES))),
        "sampler": maybe(st.sampled_from(["lcm", "euler", "unipc"])),
        "scheduler": maybe(st.sampled_from(["beta", "simple", "normal", "linear"])),
        "flow_shift": maybe(st.floats(0.01, 100)),
        "num_inference_steps": maybe(st.integers(1, 200)),
        "boundary_ratio": maybe(st.floats(0, 1)),
        "guidance_scale_high": maybe(st.floats(0, 50)),
        "guidance_scale_low": maybe(st.floats(0, 50)),
        "container": st.sampled_from(["mp4", "webm", "gif", "webp", "png"]),
        "crf": maybe(st.integers(0, 63)),
    }
)
PICTURES = st.builds(plans.facts, st.integers(16, 12_000), st.integers(16, 12_000))


@settings(max_examples=250, deadline=None)
@given(fields=REQUESTS, image=PICTURES, model=st.sampled_from([plans.row(), MERGED]))
def test_every_accepted_request_yields_a_consistent_plan(fields, image, model):
    request = GenerateRequest(**fields)
    try:
        plan = plan_job(request, image, model, plans.CPU, seed=11)
    except InvalidRequest as error:
        assert error.field in ("boundary_ratio", "crf", "width", "height")
        assert error.given == getattr(request, error.field)
        assert error.allowed
        return
    except DoesNotFit as error:
        assert re.match(r"stage [a-z ]+ needs [\d.]+ GiB and CPU has [\d.]+ GiB\. .*[Cc]hoose ", str(error)), error
        return
    check_numbers(plan, request)
    check_steps(plan, request, model)
    assert JobPlan.model_validate_json(plan.model_dump_json()) == plan


def check_numbers(plan: JobPlan, request: GenerateRequest) -> None:
    assert plan.width % 16 == plan.height % 16 == 0
    assert 16 <= plan.width <= MAX_SIDE and 16 <= plan.height <= MAX_SIDE
    assert plan.num_frames == request.num_frames
    assert plan.model_frames % 4 == 1 and plan.num_frames <= plan.model_frames < plan.num_frames + 4
    assert plan.duration_s == pytest.approx(plan.num_frames / plan.fps)
    assert plan.seed == (11 if request.seed is None else request.seed)
    assert plan.latent.frames == (plan.model_frames - 1) // 4 + 1
    assert (plan.latent.height, plan.latent.width) == (plan.height // 8, plan.width // 8)
    assert all(len(text) < 250 and "None" not in text and "nan" not in text for text in plan.warnings)


def check_steps(plan: JobPlan, request: GenerateRequest, model) -> None:
    sigmas = plan.sigmas
    assert sigmas[-1] == 0 and sigmas[-2] > 0 and sigmas[0] <= 1
    assert all(first > second for first, second in itertools.pairwise(sigmas))
    high = request.guidance_scale_high if request.guidance_scale_high is not None else recipe(plan).guidance_scale_high
    low = request.guidance_scale_low if request.guidance_scale_low is not None else recipe(plan).guidance_scale_low
    for step in plan.steps:
        assert step.expert == expert_at(step.sigma, plan.boundary_ratio)
        assert step.timestep == pytest.approx(1000 * step.sigma)
        phased = recipe(plan).plain_from is not None and step.expert != "low"
        assert step.plain == (phased and step.sigma >= 0.985)
        assert step.guidance_scale == (low if step.expert == "low" else 1.0 if phased and not step.plain else high)
    spans = [index for taken in PASSES for index in plan.span(taken)]
    assert spans == list(range(len(plan.steps)))
    assert ({step.expert for step in plan.steps} == {"single"}) == (model.boundary_ratio is None)


def recipe(plan: JobPlan):
    return RECIPES[plan.recipe]


# ---- what each field does


def test_the_default_plan_is_the_knowledge_bases_recipe():
    plan = plans.plan()
    assert (plan.recipe, plan.sampler, plan.scheduler, plan.flow_shift) == ("rapid", "lcm", "beta", 8.0)
    assert [step.expert for step in plan.steps] == ["high", "high", "low", "low"]
    assert (plan.width, plan.height) == (720, 480)
    assert (plan.num_frames, plan.model_frames, plan.fps, plan.duration_s) == (72, 73, 24, 3.0)
    assert plan.seed == 7
    assert plan.guidance.startswith("NAG (scale 11, tau 2.5, alpha 0.25) in steps 1–4 of 4")
    assert plan.negative_prompt == plan.added_negative == MOUTH_NEGATIVE
    unguided = plans.plan(allow_speech=True)
    assert (unguided.negative_prompt, unguided.nag) == ("", None)
    assert unguided.guidance == "none: CFG is off (scale 1), one model call per step"
    assert plan.crf == 18


def test_zero_is_a_value():
    plan = plans.plan(seed=0, guidance_scale_high=0.0, guidance_scale_low=0.0, boundary_ratio=0.0, crf=0)
    assert (plan.seed, plan.boundary_ratio, plan.crf) == (0, 0.0, 0)
    assert {step.guidance_scale for step in plan.steps} == {0.0}


@pytest.mark.parametrize(("boundary", "experts"), [(0.0, "hhhh"), (1.0, "hlll"), (0.9, "hhll"), (0.95, "hhll")])
def test_the_boundary_decides_the_expert(boundary, experts):
    plan = plans.plan(boundary_ratio=boundary)
    assert "".join(step.expert[0] for step in plan.steps) == experts
    assert plan.span(Pass("low")) == range(experts.find("l") if "l" in experts else 0, 4 if "l" in experts else 0)


def test_nag_acts_where_a_negative_prompt_meets_no_cfg():
    plan = plans.plan(negative_prompt="talking", guidance_scale_high=3.5)
    assert plan.nag is not None
    assert re.fullmatch(
        r"CFG 3\.5 in steps 1–2 of 4: one more model call each, \+50% denoising time; "
        r"NAG \(scale 11, tau 2\.5, alpha 0\.25\) in steps 3–4 of 4: one more cross-attention per block, "
        r"\+\d\.\d% denoising time",
        plan.guidance,
    )
    assert plans.plan(negative_prompt="talking", nag_scale=5).nag.scale == 5
    for fields in (
        {"negative_prompt": " ", "allow_speech": True},
        {"negative_prompt": "talking", "nag": False},
        {"negative_prompt": "talking", "guidance_scale_high": 3.5, "guidance_scale_low": 3.5},
    ):
        assert plans.plan(**fields).nag is None


@pytest.mark.parametrize("nothing", [{"nag_scale": 1}, {"nag_alpha": 0}, {"nag": False}])
def test_nag_that_its_formula_leaves_without_effect_is_neither_planned_nor_paid_for(nothing):
    plan = plans.plan(negative_prompt="talking", **nothing)
    assert plan.nag is None and plan.added_negative == ""
    assert plan.guidance.endswith("the negative prompt is not evaluated")


def test_guidance_is_decided_per_expert():
    plan = plans.plan(guidance_scale_high=3.5, guidance_scale_low=1.0, allow_speech=True)
    assert [step.guidance_scale for step in plan.steps] == [3.5, 3.5, 1.0, 1.0]
    assert plan.guidance == "CFG 3.5 in steps 1–2 of 4: one more model call each, +50% denoising time"
    low_only = plans.plan(guidance_scale_low=3.5)
    assert [step.guidance_scale for step in low_only.steps] == [1.0, 1.0, 3.5, 3.5]


def test_three_phases_are_cfg_without_loras_then_high_then_low_with_them():
    plan = plans.plan(plans.a14b("fp8"), device=plans.card(24), recipe="three-phase", negative_prompt="talking")
    assert [(step.expert, step.plain, step.guidance_scale) for step in plan.steps] == [
        ("high", True, 3.5), ("high", False, 1), ("high", False, 1), ("low", False, 1), ("low", False, 1), ("low", False, 1),
    ]  # fmt: skip
    stages = ["text", "image", "denoise high plain", "denoise high", "denoise low", "decode"]
    assert [peak.stage for peak in plan.peaks] == stages
    assert [time.stage for time in plan.times] == [*stages, "verify"]
    work = {time.stage: time.work for time in plan.times}
    assert work["denoise high plain"] == pytest.approx(work["denoise high"], rel=0.05)
    assert plan.guidance.startswith("CFG 3.5 in step 1 of 6") and "NAG" in plan.guidance
    assert any("is for weights with distillation LoRAs" in text for text in plan.warnings)
    assert plans.plan(recipe="three-phase", guidance_scale_high=2.0).steps[0].guidance_scale == 2.0


def test_one_frame():
    plan = plans.plan(num_frames=1)
    assert (plan.num_frames, plan.model_frames, plan.latent.frames) == (1, 1, 1)


def test_fractional_rates_are_kept():
    assert plans.plan(fps=23.976, num_frames=72).duration_s == pytest.approx(3.003003)


@pytest.mark.parametrize(("container", "default", "top"), [("mp4", 18, 51), ("webm", 30, 63)])
def test_quality_by_container(container, default, top):
    assert plans.plan(container=container).crf == default
    assert plans.plan(container=container, crf=top).crf == top
    if top < 63:
        with pytest.raises(InvalidRequest, match=rf"crf: got 63; allowed: 0 to {top} for {container}"):
            plans.plan(container=container, crf=63)


def test_a_merged_expert_has_no_boundary():
    plan = plans.plan(MERGED, guidance_scale_high=2.0)
    assert {(step.expert, step.guidance_scale) for step in plan.steps} == {("single", 2.0)}
    with pytest.raises(
        InvalidRequest, match=r"boundary_ratio: got 0\.5; allowed: nothing: merged is one merged expert"
    ):
        plans.plan(MERGED, boundary_ratio=0.5)


def test_a_side_that_follows_has_a_limit_too():
    tall = plans.facts(100, 10_000)
    with pytest.raises(InvalidRequest, match=r"width: got 720; .*height of at most 4096.*give the height too"):
        plans.plan(image=tall, width=720)
    with pytest.raises(InvalidRequest, match=r"height: got 720; .*width of at most 4096"):
        plans.plan(image=plans.facts(10_000, 100), height=720)
    assert plans.plan(image=tall, width=720, height=1280).height == 1280


def test_what_does_not_fit_is_refused():
    with pytest.raises(DoesNotFit, match="needs"):
        plans.plan(plans.row(expert_parameters=14_000_000_000))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/portrait.png", "portrait-7"), ("C:\\Users\\x\\my cat.JPG", "my-cat-7"), ("写真.png", "job-7"),
        (".hidden", "job-7"), ("a.b.c.png", "a.b.c-7"), ("../../etc/passwd", "passwd-7"), ("x" * 300 + ".png", "x" * 80 + "-7"),
    ],
)  # fmt: skip
def test_job_ids_from_any_name_are_valid_requests(path, expected):
    assert default_job_id(plans.facts(path=path), 7) == expected
    assert GenerateRequest(image="a.png", job_id=expected).job_id == expected


@given(st.text(min_size=1, max_size=200))
def test_job_ids_are_always_allowed_names(path):
    name = default_job_id(plans.facts(path=path), 7)
    assert GenerateRequest(image="a.png", job_id=name).job_id == name


# ---- identity


def test_the_fingerprint_ignores_names_and_places_and_nothing_else():
    base = plans.plan()
    same = plans.plan(job_id="other", output="elsewhere.mp4", overwrite=True)
    assert same.fingerprint() == base.fingerprint()
    for change in ({"seed": 8}, {"prompt": "x"}, {"crop": "top"}, {"fps": 16}, {"crf": 20}, {"num_frames": 71}):
        assert plans.plan(**change).fingerprint() != base.fingerprint()
    assert plans.plan(image=plans.facts(sha256="1" * 64)).fingerprint() != base.fingerprint()
    assert plans.plan(image=plans.facts(path="moved/picture.png")).fingerprint() == base.fingerprint()
    assert json.dumps(base.content())


def test_a_last_picture_counts_and_its_place_does_not():
    plain, ended = plans.plan(), plans.plan(last=plans.facts(sha256="1" * 64))
    assert plain.fingerprint() != ended.fingerprint()
    moved = plans.plan(last=plans.facts(sha256="1" * 64, path="moved/last.png"))
    assert moved.fingerprint() == ended.fingerprint()
    assert ended.last_image is not None and ended.last_image.sha256 == "1" * 64


def test_one_frame_cannot_have_a_last_picture():
    with pytest.raises(InvalidRequest, match=r"num_frames: got 1; allowed: at least 2 with a last picture"):
        plans.plan(last=plans.facts(), num_frames=1)


# ---- warnings

QUIET = {"image": plans.facts(720, 480), "num_frames": 81, "fps": 16}


def test_nothing_to_warn_of():
    assert plans.plan(**QUIET).warnings == ()


WARNINGS = [
    ({"width": 725, "height": 470}, "size 725×470 snapped to 720×464 (multiples of 16)"),
    ({"width": 725}, "size 725×480 snapped to 720×480"),
    ({"image": plans.facts(360, 240)}, "the picture is 360×240 and is enlarged 2.00× to 720×480"),
    ({"width": 256, "height": 480}, "cropping to 256×480 cuts 64% of the picture away"),
    (
        {"image": plans.facts(720, 480, has_alpha=True), "background": "red"},
        "transparent pixels of the picture are put on red",
    ),
    ({"image": plans.facts(720, 480, animated_frames=12)}, "the picture is animated: the first of 12 frames is used"),
    ({"num_frames": 72}, "the model makes 73 frames (4n+1); the file gets exactly 72"),
    ({"fps": 24}, "the model was trained at 16 fps; at 24 fps motion plays 1.5× as fast; --fps 16"),
    ({"num_frames": 121}, "121 frames are more than the 81 that the model was trained for"),
    ({"scheduler": "beta", "num_inference_steps": 200}, "steps instead of 200"),
    ({"negative_prompt": "talking", "nag": False}, "the negative prompt is not evaluated at CFG 1"),
    ({"boundary_ratio": 0.1}, "all steps fall on one side of the boundary 0.1: only the high expert works"),
    ({"model": MERGED, "guidance_scale_low": 3.0}, "guidance_scale_low has no effect: merged is one merged expert"),
]


@pytest.mark.parametrize(("changes", "expected"), WARNINGS, ids=[text[:30] for _, text in WARNINGS])
def test_each_warning_alone(changes, expected):
    (text,) = plans.plan(**(QUIET | changes)).warnings
    assert expected in text


def test_the_last_picture_is_warned_of_by_name():
    last = plans.facts(480, 720, has_alpha=True)
    texts = plans.plan(**QUIET, last=last).warnings
    assert len(texts) == 3 and all("the last picture" in text for text in texts)


def test_no_warning_where_there_is_no_reason():
    assert not plans.plan(**QUIET, negative_prompt="talking", guidance_scale_high=3.5).warnings
    assert not plans.plan(**QUIET, boundary_ratio=0.0).warnings
    assert not plans.plan(**(QUIET | {"image": plans.facts(1440, 960, rotated=True)})).warnings
    assert not plans.plan(plans.row(trained_fps=24), **(QUIET | {"fps": 24})).warnings


def test_a_third_may_be_cropped_away():
    size = choose_size((1440, 480), None, None, plans.row().sizes)
    assert crop_loss((1440, 480), size) > 1 / 3
    assert any("cropping" in text for text in plans.plan(**(QUIET | {"image": plans.facts(1440, 480)})).warnings)
    assert not any("cropping" in text for text in plans.plan(**(QUIET | {"image": plans.facts(1200, 480)})).warnings)


@pytest.mark.parametrize(("always", "dtype"), [(False, "bfloat16"), (True, "float32")])
def test_a_model_that_needs_all_digits_computes_with_them_on_a_card_too(always, dtype):
    model = plans.row(always_float32=always)
    plan = plan_job(GenerateRequest(image="a.png", prompt="x"), plans.facts(640, 480), model, plans.card(24), seed=1)
    assert plan.dtype == dtype
