"""Any file gets an answer; the report shows it."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from benchmarks import damage
from PIL import Image

from clips import encode
from wan2_i2v.doors.cli import main
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.eye.clip import examine
from wan2_i2v.eye.files import verify_file
from wan2_i2v.eye.report import draw, write_report


@pytest.fixture(scope="module")
def frames():
    return damage.good_clip(skimage.data.coffee(), "pan", size=(160, 96), frames=20)


def verdicts(seen):
    return {check.name: check for check in seen.checks}


def test_a_good_file_passes_against_its_picture(tmp_path, frames):
    picture = tmp_path / "picture.png"
    Image.fromarray(frames[0]).save(picture)
    seen = verify_file(encode(tmp_path / "clip.mp4", frames), picture, "motion")
    assert seen.passed
    assert verdicts(seen)["first_frame"].state == "judged"


def test_ten_bits_are_read_and_said(tmp_path, frames):
    checks = verdicts(verify_file(encode(tmp_path / "clip.mp4", frames, pixels="yuv420p10le")))
    assert checks["readable"].passed and checks["playable"].state == "unsure"


def test_variable_frame_rate_is_read(tmp_path, frames):
    times = np.cumsum([1, 3] * 10).tolist()
    assert verdicts(verify_file(encode(tmp_path / "clip.mkv", frames, times=times)))["readable"].passed


def test_a_truncated_file_is_a_failed_check(tmp_path, frames):
    noise = np.random.default_rng(0)
    path = encode(tmp_path / "clip.mkv", [noise.integers(0, 255, f.shape).astype(np.uint8) for f in frames])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = verify_file(path)
    assert seen.checks


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_a_failed_check(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert [check.name for check in verify_file(path).checks if not check.passed] == ["readable"]


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InvalidRequest):
        verify_file(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["report.html", "report.png"])
def test_report(tmp_path, frames, name):
    black = [np.zeros_like(frames[0]) if 8 <= i < 11 else frame for i, frame in enumerate(frames)]
    seen = verify_file(encode(tmp_path / "clip.mp4", black))
    out = tmp_path / name
    write_report(seen, out, "a <clip>")
    if name.endswith("png"):
        with Image.open(out) as picture:
            assert picture.width == 1000
    else:
        text = out.read_text()
        assert "a &lt;clip&gt;: failed" in text and "frames are black" in text
        row = next(line for line in text.splitlines() if "<td>black<" in line)
        assert "<td>3<td>0<td>0<td>3<td>3 frames are black<td>next-seed" in row


def test_a_png_report_begins_with_the_verdict(frames, tmp_path):
    good = verify_file(encode(tmp_path / "good.mp4", frames))
    black = [np.zeros_like(frames[0]) if 8 <= i < 11 else frame for i, frame in enumerate(frames)]
    bad = verify_file(encode(tmp_path / "bad.mp4", black))
    heights = [draw(seen, title).height for seen in (good, bad) for title in (None, "clip.mp4")]
    assert heights[0] == heights[2]  # the pictures below are the same
    assert heights[1] - heights[0] == 2 * 20 + 16 + 8  # the verdict, and how many checks passed
    assert heights[3] > heights[1]  # a line for each check that failed or is in doubt


def test_the_command_says_scores_limits_and_margins(frames, tmp_path, capsys):
    black = [np.zeros_like(frames[0]) if 8 <= i < 11 else frame for i, frame in enumerate(frames)]
    assert main(["verify", str(encode(tmp_path / "clip.mp4", black))]) == 3
    told = capsys.readouterr().out
    assert "FAILED     black: 3 frames are black [3, limit 0; good clips to 0, damaged from 3] Try next-seed." in told
    assert "passed     flicker: brightness is steady from frame to frame [" in told


def test_noise_is_shown_from_where_it_begins(frames):
    rng = np.random.default_rng(0)
    noisy = [
        frame if i < 10 else np.clip(frame + 12 * rng.standard_normal(frame.shape), 0, 255).astype(np.uint8)
        for i, frame in enumerate(frames)
    ]
    check = next(check for check in examine(noisy, 16) if check.name == "noise")
    assert not check.passed
    assert check.spans == ((10 / 16, 20 / 16),)
