"""Memory runs out at every point of a job in turn; the job ends with the same bytes and says what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from wan2_i2v import measured, pictures, pipeline
from wan2_i2v.devices import detect
from wan2_i2v.events import Event, Log, Progress
from wan2_i2v.media import metadata
from wan2_i2v.models import catalog, causal_vae, components, lean
from wan2_i2v.plan import JobPlan, plan_job
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest
from wan2_i2v.stages import private, tensors, text, verify
from wan2_i2v.stages.base import Job
from wan2_i2v.workspace import Workspace

POINTS = (
    (pictures, "prepare"),
    (text, "encode_tokens"),
    (causal_vae, "encoder_start"),
    (causal_vae, "encoder_rest"),
    (lean, "run_block"),
    (causal_vae, "decoder_middle"),
    (causal_vae, "decoder_rest"),
    (verify, "verify_clip"),
    (metadata, "embed"),
    (tensors, "save"),
    (components, "_resident"),
)
"""Functions that every stage goes through, also when loading; memory runs out just before they begin."""

ERRORS = (
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("CUDA error: out of memory"),
    lambda: MemoryError(),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
)


class Faults:
    """Counts calls of all POINTS; `fails` says by function name and count whether memory runs out there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.fails: Callable[[str, int], bool] = lambda name, count: False
        for module, name in POINTS:
            monkeypatch.setattr(module, name, self._watched(name, getattr(module, name)))

    def _watched(self, name: str, original):
        def call(*args, **kwargs):
            self.calls.append(name)
            if self.fails(name, len(self.calls) - 1):
                raise ERRORS[len(self.calls) % len(ERRORS)]()
            return original(*args, **kwargs)

        return call


@pytest.fixture
def make_plan(checkpoint: Path, tmp_path: Path):
    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(picture)

    def make(name: str, **fields) -> JobPlan:
        known = {"prompt": "pan", "negative_prompt": "talk", "num_frames": 6, "width": 48, "height": 32, "seed": 5}
        request = GenerateRequest(
            **known
            | {"image": str(picture), "output": str(tmp_path / f"{name}.mp4"), "job_id": name, "device": "cpu"}
            | fields
        )
        return plan_job(request, pictures.read_facts(picture), catalog.find(str(checkpoint)), detect("cpu"), seed=0)

    return make


def run(folder: Path, *plans: JobPlan, **options) -> list[Record]:
    """With a cache of its own, so that no run finds the texts of another one."""
    jobs = [Job(plan, Workspace(folder / "jobs" / plan.job_id)) for plan in plans]
    for job in jobs:
        job.workspace.create(None, job.plan)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WAN2_I2V_CACHE", str(folder / "caches" / plans[0].job_id))
        return pipeline.run(jobs, **options)


def sha256(record: Record) -> str:
    assert record.video is not None, record.error
    return hashlib.sha256(Path(record.video).read_bytes()).hexdigest()


def test_memory_runs_out_at_every_point_in_turn(make_plan, tmp_path, monkeypatch):
    faults = Faults(monkeypatch)
    (whole,) = run(tmp_path, make_plan("whole"))
    points = faults.calls.copy()
    assert {name for _, name in POINTS} == set(points), "the job goes through all of them"
    for instant in range(len(points)):
        faults.calls.clear()
        faults.fails = lambda name, count, instant=instant: count == instant
        (record,) = run(tmp_path, make_plan(f"cut-{instant}"))
        assert record.status == "done", (points[instant], record.error)
        assert sha256(record) == sha256(whole), points[instant]
        assert len(record.recoveries) == 1, points[instant]


@pytest.mark.parametrize("sampler", ["lcm", "unipc"])
def test_every_stage_down_to_its_leanest_way_gives_the_same_bytes(make_plan, tmp_path, monkeypatch, sampler):
    faults = Faults(monkeypatch)
    (whole,) = run(tmp_path, make_plan("whole", sampler=sampler))
    left = {"prepare": 1, "encode_tokens": 1, "encoder_start": 3, "run_block": 4, "decoder_rest": 3, "embed": 1}

    def fails(name: str, count: int) -> bool:
        left[name] = left.get(name, 0) - 1
        return left[name] >= 0

    faults.fails = fails
    events: list[Event] = []
    (record,) = run(tmp_path, make_plan("lean", sampler=sampler), emit=events.append)
    assert record.status == "done", record.error
    assert sha256(record) == sha256(whole)
    ways = [(recovery.stage, recovery.after) for recovery in record.recoveries]
    assert [stage for stage, _ in ways] == [
        "preprocess", "text", *["image"] * 3, *["denoise high"] * 4, *["decode"] * 3, "finish",
    ]  # fmt: skip
    assert ways[1] == ("text", "blocks streamed")
    assert ways[8] == ("denoise high", "blocks streamed, 1024 tokens and 40 head groups")
    assert ways[-2] == ("decode", "the picture in 8 strips")
    assert record.plan == whole.plan.model_copy(update={"job_id": "lean", "output": record.plan.output})
    warnings = [event.message for event in events if isinstance(event, Log) and event.level == "warning"]
    assert len(warnings) == len(ways)


@pytest.mark.skipif(not private.CLEAR.exists(), reason="the system does not count peaks")
def test_a_limit_below_the_free_memory_spoils_no_later_plan(make_plan, tmp_path, monkeypatch):
    """As with `ulimit -v`: what else is free was never to be had, so the stage did not need it."""
    faults, plan, left = Faults(monkeypatch), make_plan("limited"), len(ERRORS)

    def fails(name: str, count: int) -> bool:
        nonlocal left
        left -= name == "decoder_rest"
        return name == "decoder_rest" and left >= 0

    faults.fails = fails
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=900 * 2**30, total=2**40))
    run(tmp_path, plan)
    monkeypatch.setenv("WAN2_I2V_CACHE", str(tmp_path / "caches" / "limited"))
    short = [sample for sample in measured.load().samples if sample.kind == "decode" and not sample.seconds]
    assert len(short) >= 3 and all(sample.peak_gib is not None and sample.peak_gib < 5 for sample in short)


def test_finished_steps_are_not_computed_again(make_plan, tmp_path, monkeypatch):
    faults = Faults(monkeypatch)
    blocks = 0

    def fails(name: str, count: int) -> bool:
        nonlocal blocks
        blocks += name == "run_block"
        return name == "run_block" and blocks == 4

    faults.fails = fails
    events: list[Event] = []
    (record,) = run(tmp_path, make_plan("cut"), emit=events.append)
    steps = [event.done for event in events if isinstance(event, Progress) and event.stage == "denoise high"]
    assert steps == [1, 2]
    (recovery,) = record.recoveries
    assert (recovery.stage, recovery.step) == ("denoise high", 2)


def test_in_a_batch_the_others_go_on_leaner_and_nothing_is_done_twice(make_plan, tmp_path, monkeypatch):
    faults = Faults(monkeypatch)
    alone = [run(tmp_path, make_plan(f"alone-{seed}", seed=seed, prompt=f"pan {seed}"))[0] for seed in (1, 2, 3)]
    faults.calls.clear()
    texts = 0

    def fails(name: str, count: int) -> bool:
        nonlocal texts
        texts += name == "encode_tokens"
        return name == "encode_tokens" and texts == 3

    faults.fails = fails
    records = run(tmp_path, *(make_plan(f"batch-{seed}", seed=seed, prompt=f"pan {seed}") for seed in (1, 2, 3)))
    assert [sha256(record) for record in records] == [sha256(record) for record in alone]
    assert [len(record.recoveries) for record in records] == [0, 1, 1]


def test_when_nothing_helps_the_job_fails_and_says_what_was_tried(make_plan, tmp_path, monkeypatch):
    faults = Faults(monkeypatch)
    faults.fails = lambda name, count: name == "run_block"
    (record,) = run(tmp_path, make_plan("hopeless"))
    assert record.status == "failed"
    assert record.error is not None and record.error["code"] == "out_of_memory"
    assert "blocks streamed" in record.error["message"] and "resume" in record.error["message"]
    faults.fails = lambda name, count: False
    (resumed,) = run(tmp_path, make_plan("hopeless"))
    assert resumed.status == "done"
    assert resumed.recoveries == record.recoveries
