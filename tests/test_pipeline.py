"""The whole way: stage-major batches, determinism, resume, cancel, and failures that stay with their job."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from wan2_i2v import measured, pipeline
from wan2_i2v.devices import detect
from wan2_i2v.errors import Cancelled
from wan2_i2v.events import Event, Finished, Log, Progress, Started
from wan2_i2v.models import catalog, components
from wan2_i2v.pictures import read_facts
from wan2_i2v.plan import JobPlan, LoraPlan, plan_job
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelFiles
from wan2_i2v.schedule import PASSES
from wan2_i2v.stages import private, tensors
from wan2_i2v.stages.base import Job, source_of
from wan2_i2v.workspace import Workspace


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "gradient.png"
    image = Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L")])
    image.resize((48, 32)).save(path)
    return path


@pytest.fixture
def make_plan(checkpoint: Path, picture: Path):
    def make(output: Path, **fields) -> JobPlan:
        known = {"image": str(picture), "prompt": "pan left", "num_frames": 6, "width": 48, "height": 32, "seed": 5}
        request = GenerateRequest(**(known | {"output": str(output), "device": "cpu"} | fields))
        return plan_job(request, read_facts(picture), catalog.find(str(checkpoint)), detect("cpu"), seed=0)

    return make


def run(folder: Path, *plans: JobPlan, **options):
    jobs = [Job(plan, Workspace(folder / "jobs" / plan.job_id)) for plan in plans]
    for job in jobs:
        job.workspace.create(None, job.plan)
    return pipeline.run(jobs, **options)


def sha256(path: str | Path | None) -> str:
    assert path is not None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_one_picture_becomes_a_video_with_a_verdict(make_plan, tmp_path):
    (record,) = run(tmp_path, make_plan(tmp_path / "clip.mp4"))
    assert record.status == "done", record.error
    assert record.video == str(tmp_path / "clip.mp4")
    assert record.verification is not None
    assert {"frames", "fps"} <= {check.name.split()[0] for check in record.verification.checks} | {"frames", "fps"}
    assert set(record.seconds) >= {"preprocess", "text", "image", "denoise high", "denoise low", "decode"}


def test_a_last_picture_goes_the_whole_way(make_plan, picture, tmp_path):
    last = tmp_path / "last.png"
    with Image.open(picture) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(last)
    plain = make_plan(tmp_path / "plain.mp4", job_id="plain")
    ended = make_plan(tmp_path / "ended.mp4", job_id="ended").model_copy(update={"last_image": read_facts(last)})
    one, other = run(tmp_path, plain, ended)
    assert other.status == "done", other.error
    assert sha256(one.video) != sha256(other.video)
    names = {check.name for check in other.verification.checks} - {check.name for check in one.verification.checks}
    assert names == {"last_frame"}
    assert other.plan.last_image.sha256 == sha256(last)
    prepared = Workspace(tmp_path / "jobs" / "ended").prepared_last
    with Image.open(prepared) as seen, Image.open(last) as given:
        assert seen.tobytes() == given.convert("RGB").tobytes()


def test_three_phases_load_each_model_once_for_all_jobs(make_plan, tmp_path, monkeypatch):
    loaded: list[tuple[str, int]] = []
    plain = components.transformer

    def counting(source, expert):
        loaded.append((expert, len(source.loras)))
        return plain(source, expert)

    monkeypatch.setattr(components, "transformer", counting)
    jobs = [make_plan(tmp_path / f"{seed}.mp4", job_id=f"j{seed}", seed=seed, recipe="three-phase") for seed in (1, 2)]
    events: list[Event] = []
    records = run(tmp_path, *jobs, emit=events.append)
    assert [record.status for record in records] == ["done", "done"]
    assert [expert for expert, _ in loaded] == ["high", "high", "low"]
    steps = Counter((event.job_id, event.stage) for event in events if isinstance(event, Progress))
    assert [steps["j1", stage] for stage in ("denoise high plain", "denoise high", "denoise low")] == [1, 2, 3]


def test_a_phase_without_loras_is_run_without_them(make_plan, tmp_path):
    """What a job's LoRAs are is asked of the plan by the stage's name."""
    lora = LoraPlan(
        expert="high", path="file", fingerprint="", strength=1, matched=1, unmatched=0, bytes=1, about="a test"
    )
    plan = make_plan(tmp_path / "a.mp4", recipe="three-phase").model_copy(update={"loras": (lora,)})
    assert [len(source_of(plan, taken.stage).loras) for taken in PASSES] == [0, 0, 0, 1, 0]


def test_the_same_request_twice_gives_the_same_bytes(make_plan, tmp_path):
    (first,) = run(tmp_path / "a", make_plan(tmp_path / "one.mp4", job_id="first"))
    (second,) = run(tmp_path / "b", make_plan(tmp_path / "two.mp4", job_id="second"))
    assert sha256(first.video) == sha256(second.video)


def test_another_seed_gives_another_video(make_plan, tmp_path):
    first, second = run(
        tmp_path, make_plan(tmp_path / "1.mp4", job_id="a", seed=1), make_plan(tmp_path / "2.mp4", job_id="b", seed=2)
    )
    assert sha256(first.video) != sha256(second.video)


@pytest.mark.parametrize("recipe", ["rapid", "lightx2v"])
def test_a_batch_equals_single_runs_byte_for_byte(make_plan, tmp_path, recipe):
    plans = [
        make_plan(tmp_path / f"batch-{seed}.mp4", job_id=f"b{seed}", seed=seed, prompt=f"zoom {seed}", recipe=recipe)
        for seed in range(8)
    ]
    batch = run(tmp_path / "batch", *plans)
    for plan, together in zip(plans, batch, strict=True):
        alone_plan = plan.model_copy(update={"output": str(tmp_path / f"alone-{plan.seed}.mp4")})
        (alone,) = run(tmp_path / "alone", alone_plan)
        assert together.status == alone.status == "done"
        assert sha256(together.video) == sha256(alone.video)


def test_each_model_is_loaded_once_for_a_batch(make_plan, tmp_path, monkeypatch):
    monkeypatch.setenv("WAN2_I2V_CACHE", str(tmp_path / "cache"))
    loads: Counter[str] = Counter()
    original = components._resident

    def counting(source, component):
        loads[component.identity.path.name] += 1
        return original(source, component)

    monkeypatch.setattr(components, "_resident", counting)
    run(tmp_path, *(make_plan(tmp_path / f"{seed}.mp4", job_id=f"j{seed}", seed=seed) for seed in range(3)))
    assert loads == {"text_encoder": 1, "vae": 2, "transformer": 1, "transformer_2": 1}


def test_stages_are_walked_before_jobs(make_plan, tmp_path):
    events: list[Event] = []
    run(tmp_path, *(make_plan(tmp_path / f"{s}.mp4", job_id=f"j{s}", seed=s) for s in (1, 2)), emit=events.append)
    order = [event.stage for event in events if isinstance(event, Started)]
    assert order == [stage for stage in dict.fromkeys(order) for _ in range(2)]
    assert [event.status for event in events if isinstance(event, Finished)] == ["done", "done"]
    steps = [event for event in events if isinstance(event, Progress) and event.stage == "denoise high"]
    assert [(event.job_id, event.done, event.total) for event in steps] == [
        ("j1", 1, 2),
        ("j1", 2, 2),
        ("j2", 1, 2),
        ("j2", 2, 2),
    ]


@pytest.mark.parametrize("sampler", ["lcm", "euler", "unipc"])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 5, 7])
def test_cancelled_jobs_go_on_to_the_same_bytes(make_plan, tmp_path, sampler, stop_after):
    fields = {"sampler": sampler, "num_inference_steps": 6, "guidance_scale_high": 2.0, "negative_prompt": "left"}
    (whole,) = run(tmp_path / "whole", make_plan(tmp_path / "whole.mp4", **fields))
    seen = Counter[str]()

    def listen(event: Event) -> None:
        seen["steps"] += isinstance(event, Progress) and event.stage not in ("preprocess", "text", "image")

    with pytest.raises(Cancelled, match="resume"):
        run(
            tmp_path / "cut",
            make_plan(tmp_path / "cut.mp4", **fields),
            emit=listen,
            cancelled=lambda: seen["steps"] >= stop_after,
        )
    assert not (tmp_path / "cut.mp4").exists()
    (resumed,) = run(tmp_path / "cut", make_plan(tmp_path / "cut.mp4", **fields))
    assert sha256(resumed.video) == sha256(whole.video)


def test_a_failing_job_is_recorded_and_the_others_go_on(make_plan, tmp_path):
    good = make_plan(tmp_path / "good.mp4", job_id="good")
    bad = make_plan(tmp_path / "bad.mp4", job_id="bad")
    job = Job(bad, Workspace(tmp_path / "jobs" / "bad"))
    job.workspace.create(None, bad)
    job.workspace.conditioning.write_bytes(b"not a tensor file")
    bad_record, good_record = run(tmp_path, bad, good)
    assert (bad_record.status, good_record.status) == ("failed", "done")
    assert bad_record.error is not None and "denoise" in bad_record.error["message"]
    assert not (tmp_path / "bad.mp4").exists()


def test_nan_latents_are_named_and_nothing_is_encoded(make_plan, tmp_path):
    plan = make_plan(tmp_path / "nan.mp4")
    job = Job(plan, Workspace(tmp_path / "jobs" / plan.job_id))
    run(tmp_path, plan, cancelled=lambda: False)
    job.workspace.record.unlink()
    (tmp_path / "nan.mp4").unlink()
    stored = tensors.load(job.workspace.latents)
    tensors.save(job.workspace.latents, {"latents": stored["latents"] * float("nan")}, {"step": "3"})
    (record,) = run(tmp_path, plan)
    assert record.status == "failed"
    assert record.error is not None and record.error["code"] == "numerical_error"
    assert "step 4" in record.error["message"]


def test_a_missing_checkpoint_fails_all_jobs_of_it_with_its_name(make_plan, tmp_path):
    plan = make_plan(tmp_path / "x.mp4").model_copy(update={"model_files": ModelFiles.in_folder(tmp_path / "gone")})
    (record,) = run(tmp_path, plan)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error["code"] == "checkpoint_error"
    assert "gone" in record.error["message"]


def test_a_finished_job_is_not_run_again(make_plan, tmp_path):
    plan = make_plan(tmp_path / "clip.mp4")
    run(tmp_path, plan)
    events: list[Event] = []
    (record,) = run(tmp_path, plan, emit=events.append)
    assert record.status == "done"
    assert not [event for event in events if isinstance(event, Started)]


def test_one_merged_expert_runs(picture, tmp_path):
    import checkpoints

    folder = checkpoints.write(tmp_path / "merged", boundary_ratio=None)
    request = GenerateRequest(
        image=str(picture), num_frames=5, width=32, height=32, output=str(tmp_path / "m.mp4"), device="cpu"
    )
    plan = plan_job(request, read_facts(picture), catalog.find(str(folder)), detect("cpu"), seed=3)
    assert {step.expert for step in plan.steps} == {"single"}
    (record,) = run(tmp_path, plan)
    assert record.status == "done", record.error


def test_a_prompt_seen_before_loads_no_text_encoder(make_plan, tmp_path, monkeypatch):
    (first,) = run(tmp_path / "a", make_plan(tmp_path / "one.mp4", job_id="first", prompt="seen once"))
    monkeypatch.setattr(components, "text_encoder", lambda source: pytest.fail("the text encoder was loaded"))
    (second,) = run(tmp_path / "b", make_plan(tmp_path / "two.mp4", job_id="second", prompt=" seen  once "))
    assert sha256(second.video) != sha256(first.video), "the prompt itself is in the file's metadata"
    texts = [tensors.load(tmp_path / name / "text.safetensors") for name in ("a/jobs/first", "b/jobs/second")]
    assert (texts[0]["prompt_embeds"] == texts[1]["prompt_embeds"]).all()


def test_a_cache_that_cannot_be_written_is_said_and_harmless(make_plan, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("WAN2_I2V_CACHE", str(blocked))
    events: list[Event] = []
    (record,) = run(tmp_path, make_plan(tmp_path / "clip.mp4"), emit=events.append)
    assert record.status == "done"
    told = [event.message for event in events if isinstance(event, Log)]
    assert any("text embeddings cannot be kept" in message for message in told)
    assert any("measured times and peaks cannot be kept" in message for message in told)


def test_what_stages_took_corrects_later_plans(make_plan, tmp_path, monkeypatch):
    monkeypatch.setenv("WAN2_I2V_CACHE", str(tmp_path / "cache"))
    plan = make_plan(tmp_path / "clip.mp4")
    run(tmp_path, plan)
    samples = measured.load().samples
    assert [sample.kind for sample in samples] == ["text", "image", "denoise", "denoise", "decode"]
    assert all(sample.seconds > 0 and sample.model == plan.model for sample in samples)
    assert {sample.peak_gib is None for sample in samples} == {not private.CLEAR.exists()}
    label = samples[0].device
    assert measured.load().growth(label, plan.dtype, "decode") >= 1.0
