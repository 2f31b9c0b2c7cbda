"""The benchmark command's CPU part, on the tiny checkpoint: every measurement is made, and says what it could not do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wan2_i2v import devices
from wan2_i2v.bench import drawn, parity, peaks, suite
from wan2_i2v.bench.report import Report, Row, cell
from wan2_i2v.doors.cli import app
from wan2_i2v.geometry import latent_shape
from wan2_i2v.models import catalog
from wan2_i2v.stages import private

SMALL = suite.Sizes(latent_shape(5, 64, 64), latent_shape(5, 64, 64), (64, 48, 5))


@pytest.fixture(scope="module")
def report(checkpoint: Path) -> Report:
    return suite.run(devices.detect("cpu"), str(checkpoint), lambda text: None, SMALL)


def rows(report: Report, name: str) -> tuple[Row, ...]:
    part = next(part for part in report.parts if part.name == name)
    assert not part.skipped
    return part.rows


def test_every_part_is_there_and_what_needs_a_card_says_so(report):
    assert [part.name for part in report.parts] == ["memory", "parity", "residency", "attention", "clip"]
    assert [part.name for part in report.parts if part.skipped == suite.NO_CARD] == ["parity"]
    assert report.versions["torch"] == torch.__version__
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_streamed_and_resident_experts_give_the_same_bits(report):
    found = rows(report, "residency")
    assert [row.what for row in found] == ["resident", "1 of 2 blocks kept", "streamed"]
    assert all(row.values["same bits"] is True for row in found)
    assert all(float(row.values["seconds"]) > 0 for row in found)


def test_peaks_are_predicted_traced_and_where_the_system_counts_real(report):
    found = rows(report, "memory")
    assert [row.what for row in found] == [
        "image, resident",
        "denoise, resident",
        "denoise, streamed",
        "decode, resident",
    ]
    for row in found:
        # The plan rounds weights and activations to whole MiB, of which this checkpoint has few.
        assert 0 < float(row.values["traced GiB"]) <= float(row.values["predicted GiB"]) * 1.1 + 0.001
        assert ("real GiB" in row.values) == private.CLEAR.exists()


def test_kernels_of_cards_are_named_with_the_reason(report):
    found = {row.what: row.values["found"] for row in rows(report, "attention")}
    assert found["sdpa"] == "works"
    assert "not usable" in str(found["sage"]) and "NVIDIA" in str(found["flash"])


def test_the_clip_is_made_by_the_pipeline(report):
    found = {row.what: row.values for row in rows(report, "clip")}
    assert {"text", "image", "denoise high", "denoise low", "decode", "verify", "checks of the file"} <= set(found)
    assert float(found["decode"]["seconds"]) > 0


def test_parity_of_a_device_with_itself(checkpoint):
    here = devices.detect("cpu")
    found = list(parity.differences(catalog.find(str(checkpoint)), here, here))
    assert {row.what.partition(",")[0] for row in found} == {"text", "conditioning", "latents", "frames"}
    assert all(row.values["largest difference"] == 0 for row in found if row.what.endswith("float32"))
    assert all(float(row.values["mean size"]) > 0 for row in found)


@pytest.mark.skipif(not private.CLEAR.exists(), reason="the system does not count peaks")
def test_what_is_held_for_a_moment_is_measured():
    def hold() -> None:
        torch.ones(48 * 2**20 // 4)

    found = peaks.measured(hold, "cpu")
    assert found is not None
    assert 40 / 1024 < found < 80 / 1024


def test_a_drawn_expert_is_traced_as_the_memory_plan_counts(checkpoint):
    row = catalog.find(str(checkpoint))
    models = drawn.Models(row, suite._config(row, "transformer"), suite._config(row, "vae"))
    assert models.expert["num_layers"] == row.num_layers
    assert models.vae["patch_size"] == row.vae_patch


def test_a_streamed_expert_is_traced_without_the_blocks_that_are_not_there(checkpoint):
    row = catalog.find(str(checkpoint))
    config = {**suite._config(row, "transformer"), "num_layers": 12}
    row = replace(row, num_layers=12, expert_parameters=row.expert_parameters * 6)
    models = drawn.Models(row, config, suite._config(row, "vae"))
    found = {}
    for peak in peaks.on_cpu(models, SMALL.peaks, devices.detect("cpu")):
        found[peak.what] = float(peak.values["traced GiB"])
    assert found["denoise, streamed"] < found["denoise, resident"]


def test_the_command_writes_json_and_shows_tables(report, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "run", lambda device, model, say, sizes=None: report)
    out = tmp_path / "bench.json"
    assert app.main(["bench", "--device", "cpu", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "not measured: there is no CUDA card here" in told.out and "same bits" in told.out
    assert "what needs a CUDA card is left out" in told.err
    assert Report.model_validate_json(out.read_text()) == report
    assert app.main(["bench", "--device", "cpu", "--out", str(out)]) == 7, "nothing is written over"
    capsys.readouterr()
    assert app.main(["bench", "--device", "cpu", "--quiet", "--json", "--out", str(tmp_path / "again.json")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["model"] == report.model and told.err == ""


def test_cells():
    assert [cell(value) for value in (None, True, False, 0.123456, "x")] == ["", "yes", "NO", "0.1235", "x"]
