"""The book of runs, figures with intervals, sharing, the report and the entries of the knowledge base."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import plans
from wan2_i2v import knowledge
from wan2_i2v.errors import InvalidRequest, OutputError
from wan2_i2v.insights import figures, report, sharing
from wan2_i2v.insights.book import Book
from wan2_i2v.insights.run import Run, Verdict, run_of
from wan2_i2v.presets import MOUTH_NEGATIVE, PROMPT_PRESETS
from wan2_i2v.record import Check, Record, Verification


def record(seed=7, passed=True, **request):
    plan = plans.plan(seed=seed, **request)
    checks = (
        Check(name="mouth", passed=passed, value=0.02 if passed else 0.2, limit=0.05, message="m"),
        Check(name="loop", passed=True, value=None, limit=0.6, message="m", state="unchecked"),
    )
    verification = Verification(checks=checks)
    return Record(
        job_id=plan.job_id, status="done", plan=plan, video="v.mp4", verification=verification, seconds={"decode": 2.0}
    )


def runs(count, tmp_path, first=0, **changes):
    made = [run_of(record(seed=first + i), tmp_path / str(first + i), "RTX 3090", 24.0) for i in range(count)]
    return [run.model_copy(update=changes) for run in made]


@pytest.fixture
def book(tmp_path):
    with Book(tmp_path / "sub" / "insights.db") as opened:
        yield opened


def test_a_run_keeps_numbers_and_verdicts(tmp_path):
    preset = PROMPT_PRESETS["combat"]
    run = run_of(record(passed=False, prompt=preset.prompt, guidance_scale_high=3.5), tmp_path, "CPU", 16)
    assert (run.preset, run.recipe, run.guidance, run.nag_scale) == ("combat", "rapid", "CFG and NAG", 11)
    assert run.verdicts[0] == Verdict(name="mouth", passed=False, state="judged", value=0.2)
    assert run.negative_prompt == MOUTH_NEGATIVE
    assert run.fitted is True
    assert run.model_copy(update={"error": "out_of_memory", "status": "failed"}).fitted is False
    assert run.model_copy(update={"error": "numerical_error", "status": "failed"}).fitted is None
    assert run.model_copy(update={"recoveries": 1}).fitted is False


def test_a_run_keeps_the_plan_and_the_peaks_of_every_stage(tmp_path):
    made = record(seed=5, flow_shift=3.5, fps=16).model_copy(update={"peaks": {"decode": 1.5, "text": 0.5}})
    run = run_of(made, tmp_path, "CPU", 16)
    assert (run.seed, run.flow_shift, run.fps, run.loras) == (5, 3.5, 16, 0)
    assert (run.peaks, run.peak_gib) == ({"decode": 1.5, "text": 0.5}, 1.5)
    assert run.predicted.keys() == {peak.stage for peak in made.plan.peaks}
    old = Run.model_validate(run.model_dump(exclude={"seed", "peaks", "predicted"}))
    assert (old.seed, old.peaks) == (None, {})


@pytest.mark.parametrize(("freedom", "known"), [(4, 2.7764), (9, 2.2622), (30, 2.0423), (1000, 1.9623)])
def test_student_is_that_of_the_tables(freedom, known):
    assert figures.student(freedom) == pytest.approx(known, rel=0.003)


def test_equal_ratings_are_not_certain(tmp_path):
    (one, *_) = figures.likings(runs(5, tmp_path, rating=4))
    assert one.mean == 4 and one.low == pytest.approx(4 - 2.7764 * (1 / 12) ** 0.5 / 5**0.5, abs=0.01)
    assert one.high - one.mean == pytest.approx(one.mean - one.low)


def test_a_report_replaces_only_a_report(tmp_path):
    page = tmp_path / "knowledge-base.md"
    page.write_text("# My own notes\n")
    with pytest.raises(OutputError, match="no report of this program"):
        report.write((), tmp_path)
    assert page.read_text() == "# My own notes\n"
    page.unlink()
    assert report.write((), tmp_path) == report.write((), tmp_path) == page


def test_the_book_keeps_replaces_and_rates(book, tmp_path):
    (one,) = runs(1, tmp_path)
    book.add(one, "boat-1")
    assert book.rate("boat-1", 4) and not book.rate("unknown", 4)
    book.add(one.model_copy(update={"status": "failed"}), "boat-1")
    (kept,) = book.runs()
    assert (kept.rating, kept.status, kept.prompt) == (4, "failed", one.prompt)


def test_a_book_that_cannot_be_opened_says_so(tmp_path):
    (tmp_path / "not.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(OutputError, match="WAN2_I2V_INSIGHTS"):
        Book(tmp_path / "not.db")


def test_shared_runs_have_no_prompts_and_come_in_once(book, tmp_path):
    for run in runs(3, tmp_path):
        book.add(run, run.id)
    assert sharing.write(book.runs(), tmp_path / "shared.jsonl") == 3
    text = (tmp_path / "shared.jsonl").read_text()
    assert "mouth opening" not in text and "A test" not in text and str(tmp_path) not in text
    with Book(tmp_path / "other.db") as other:
        taken = tuple(sharing.read(tmp_path / "shared.jsonl"))
        assert (other.merge(taken), other.merge(taken)) == (3, 0)
        assert [run.id for run in other.runs()] == [run.id for run in book.runs()]
    sharing.write(book.runs(), tmp_path / "with.jsonl", prompts=True)
    assert "A test in soft light." in (tmp_path / "with.jsonl").read_text()


@pytest.mark.parametrize("content", ["", "{}\n", "no json", '{"wan2_i2v_insights": 1}\n{"id": 3}\n'])
def test_foreign_files_are_refused(content, tmp_path):
    (tmp_path / "file").write_text(content)
    with pytest.raises(InvalidRequest, match="insights export"):
        tuple(sharing.read(tmp_path / "file"))


@given(st.integers(1, 400), st.data())
def test_wilson_holds_the_share(count, data):
    passed = data.draw(st.integers(0, count))
    low, high = figures.wilson(passed, count)
    assert 0 <= low <= passed / count + 1e-12 and passed / count - 1e-12 <= high <= 1


def test_wilson_is_that_of_scipy():
    from scipy.stats import binomtest

    theirs = binomtest(7, 9).proportion_ci(method="wilson")
    assert figures.wilson(7, 9) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_nothing_is_claimed_from_fewer_than_five_runs(tmp_path):
    four, five = runs(4, tmp_path), runs(5, tmp_path)
    assert not figures.sizes(four) and not figures.rates(four)
    assert figures.sizes(five) and figures.rates(five)


def test_sizes_are_measured_beside_computed(tmp_path):
    good = runs(6, tmp_path)
    bad = runs(5, tmp_path, first=50, error="out_of_memory", status="failed", width=1024, height=720)
    large, small = figures.sizes([*good, *bad])
    assert (large.verdict, small.verdict) == ("fails", "safe")
    assert (small.fitted.passed, small.fitted.count, small.seconds) == (6, 6, 2.0)
    assert small.predicted_gib > 0 and small.memory_gib == 24
    assert (small.peak_gib, small.measured) == (None, "not measured")


def test_the_largest_measured_peak_of_a_size_is_told(tmp_path):
    measured = record().model_copy(update={"peaks": {"text": 1.25, "denoise high": 3.5, "decode": 2.0}})
    peaks = [run_of(measured, tmp_path / "one", "RTX 3090", 24.0).peak_gib, None, 3.0, 4.0, 3.25]
    known = [run.model_copy(update={"peak_gib": peak}) for run, peak in zip(runs(5, tmp_path), peaks, strict=True)]
    (size,) = figures.sizes(known)
    assert (peaks[0], size.peak_gib, size.measured) == (3.5, 4.0, "4.0 GiB")
    assert "| 4.0 GiB | " in report.text(known)


def test_rates_leave_out_what_could_not_be_looked_at(tmp_path):
    failed = (Verdict(name="mouth", passed=False, state="judged", value=0.2),)
    mixed = [*runs(6, tmp_path), *runs(2, tmp_path, first=50, verdicts=failed)]
    found = {(one.by, one.check): one.share for one in figures.rates(mixed)}
    assert (found["recipe", "mouth"].passed, found["recipe", "mouth"].count) == (6, 8)
    assert ("recipe", "loop") not in found
    assert found["guidance", "all checks"].told() == "75% of 8 (41%–93%)"


def test_ratings_by_group(tmp_path):
    rated = [run.model_copy(update={"rating": 1 + i % 5}) for i, run in enumerate(runs(10, tmp_path))]
    liking = next(one for one in figures.likings(rated) if one.by == "preset")
    assert (liking.group, liking.count, liking.mean) == ("own prompt", 10, 3.0)
    assert 1 <= liking.low < 3 < liking.high <= 5


def test_the_report_has_figures_plots_and_entries(tmp_path):
    known = [*runs(6, tmp_path), *runs(5, tmp_path, first=50, recipe="official")]
    page = report.write(known, tmp_path / "report")
    text = page.read_text()
    assert "| recipe | official | mouth | 100% of 5 (57%–100%) |" in text
    pictures = re.findall(r"\]\((.*?\.png)\)", text)
    assert "seconds-by-size.png" in pictures and "checks-by-recipe.png" in pictures
    for name in pictures:
        with Image.open(page.parent / name) as picture:
            assert picture.size[0] == 900
    assert "holds: no" in text and "832x480" in text


def test_an_empty_report_claims_nothing(tmp_path):
    text = report.write([], tmp_path).read_text()
    assert text.count("No size was run 5 times") == 1
    assert "passed in" not in text and list(tmp_path.glob("*.png")) == []


def test_every_entry_has_source_date_and_where_wrong_a_correction():
    found = knowledge.entries()
    assert len(found) > 20
    for entry in found:
        assert entry.source.date.year >= 2025 and entry.source.name
        assert bool(entry.correction) == (entry.by is not None)
        if entry.holds in ("no", "partly"):
            assert entry.correction, entry.says


def test_a_measured_entry_says_what_its_benchmark_says():
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    told = {entry.source.name: entry for entry in knowledge.entries()}
    for name, keys in {"nag_effect": ("share_taken", "mean"), "mouth": ("found_from_6_percent",)}.items():
        value = json.loads((results / f"{name}.json").read_text())
        for key in keys:
            value = value[key]
        entry = next(one for source, one in told.items() if f"benchmarks/{name}.py" in source)
        assert f"{100 * value:.0f} %" in entry.says or f"{100 * value:.1f} %" in entry.says
    shares = [entry.says for entry in knowledge.entries() if "benchmarks/artefacts.py" in entry.source.name]
    found = json.loads((results / "artefacts.json").read_text())["found_medium_strong"]
    assert all(f"{100 * found:.1f} %" in says for says in shares) and shares


def test_the_report_keeps_a_topic_together():
    headings = re.findall(r"^### (.+)$", report.text(()), re.MULTILINE)
    assert len(headings) == len(set(headings)) > 5


def test_unknown_fields_of_newer_versions_are_passed_over(tmp_path):
    (one,) = runs(1, tmp_path)
    newer = one.model_dump_json()[:-1] + ', "later": 1}'
    assert Run.model_validate_json(newer).id == one.id
