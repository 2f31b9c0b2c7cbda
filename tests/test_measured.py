"""The local table: what is added is found again, damage costs nothing but estimates, and it does not grow for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan2_i2v import measured
from wan2_i2v.measured import Sample, Table


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WAN2_I2V_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "measured.jsonl"


def sample(**changes) -> Sample:
    known = {"device": "Card", "dtype": "bfloat16", "model": "m", "kind": "denoise", "residency": "resident"}
    return Sample(**(known | {"work": 2e12, "seconds": 1.0, "predicted_gib": 4.0, "peak_gib": 3.0} | changes))


def rate(table: Table, **changes) -> float | None:
    known = {"device": "Card", "dtype": "bfloat16", "model": "m", "kind": "denoise", "residency": "resident"}
    return table.seconds_per_work(**(known | changes))


def test_nothing_was_measured():
    assert measured.load() == Table()
    assert rate(measured.load()) is None
    assert measured.load().growth("Card", "bfloat16", "denoise") == 1.0


def test_what_is_added_is_found_again_in_order(place):
    measured.add(sample(seconds=1.0), sample(seconds=2.0))
    measured.add(sample(seconds=3.0))
    assert [one.seconds for one in measured.load().samples] == [1.0, 2.0, 3.0]
    assert rate(measured.load()) == pytest.approx(2.0 / 2e12)


@pytest.mark.parametrize("field", ["device", "dtype", "model", "kind", "residency"])
def test_a_rate_is_of_exactly_this(field):
    measured.add(sample())
    assert rate(measured.load(), **{field: "decode"}) is None


def test_the_newest_decide():
    measured.add(*(sample(seconds=100.0) for _ in range(10)), *(sample(seconds=4.0) for _ in range(5)))
    assert rate(measured.load()) == pytest.approx(2e-12)


def test_growth_is_the_worst_of_the_newest_and_never_below_1():
    measured.add(sample(peak_gib=2.0), sample(peak_gib=5.0), sample(peak_gib=None))
    assert measured.load().growth("Card", "bfloat16", "denoise") == pytest.approx(1.25)
    measured.add(*(sample(peak_gib=3.0) for _ in range(5)))
    assert measured.load().growth("Card", "bfloat16", "denoise") == 1.0


def test_damaged_lines_are_passed_over(place):
    measured.add(sample(seconds=1.0))
    with place.open("a") as file:
        file.write('{"device": "Ca\nnot json\n')
    measured.add(sample(seconds=2.0))
    assert [one.seconds for one in measured.load().samples] == [1.0, 2.0]
    place.write_bytes(b"\xff\xfe")
    assert measured.load() == Table()


def test_it_does_not_grow_for_ever(place, monkeypatch):
    monkeypatch.setattr(measured, "MOST_BYTES", 2000)
    for second in range(1, 40):
        measured.add(sample(seconds=float(second)))
    assert place.stat().st_size < 2300
    assert measured.load().samples[-1].seconds == 39.0
    assert [entry.name for entry in place.parent.iterdir()] == ["measured.jsonl"]
