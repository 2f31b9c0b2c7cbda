"""Every odd video and picture has an answer, and none is an exception: as a library, as commands, and in the report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import repeat

import av
import numpy as np
import pytest
import skimage.data
from benchmarks import damage, mouths
from benchmarks.mouths import Scene
from PIL import Image, ImageDraw, ImageFilter

from clips import encode
from wan2_i2v.doors.cli import main
from wan2_i2v.eye.crowd import UNSEEN
from wan2_i2v.eye.faces import find_faces
from wan2_i2v.eye.files import verify_file
from wan2_i2v.eye.picture import analyze
from wan2_i2v.eye.report import write_report

UNEQUAL = [*range(16), 28, 40, 52, 64]
"""A second of 16 frames, then four frames in three; in sixteenths."""
HUGE = (7680, 4320)


@pytest.fixture(scope="module")
def frames():
    return damage.good_clip(skimage.data.coffee(), "pan", size=(160, 96), frames=20)


@pytest.fixture(scope="module")
def face():
    """The left of a picture with one face."""
    return np.ascontiguousarray(skimage.data.astronaut()[:288, 96:384])


def silence(output, stream):
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    sound.sample_rate = 44100
    output.mux(stream.encode(sound))
    output.mux(stream.encode(None))


def without_frames(path):
    """A stream of pictures and one of sound, and only sound in the file."""
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        silence(output, output.add_stream("aac", rate=44100))
    return path


def sound_only(path):
    with av.open(path, "w") as output:
        silence(output, output.add_stream("aac", rate=44100))
    return path


def cut(path, keep):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def turned(path, quarters):
    """Write into an mp4 that players shall turn it clockwise, as phones do: the matrix of its track header (ISO 14496-12)."""
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for place, value in ((0, cos), (4, sin), (12, -sin), (16, cos)):
        data[at + place : at + place + 4] = (value * 0x10000).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


FINE = {"crf": "4"}
VP9 = "libvpx-vp9"
VIDEOS = {
    "without frames, mp4": lambda path, frames: without_frames(path / "clip.mp4"),
    "without frames, mkv": lambda path, frames: without_frames(path / "clip.mkv"),
    "audio only": lambda path, frames: sound_only(path / "clip.mp4"),
    "10 bits": lambda path, frames: encode(path / "clip.mp4", frames, pixels="yuv420p10le"),
    "10 bits, 4:4:4": lambda path, frames: encode(path / "clip.mp4", frames, pixels="yuv444p10le"),
    "10 bits, HEVC": lambda path, frames: encode(path / "clip.mp4", frames, codec="libx265", pixels="yuv420p10le"),
    "variable frame rate, mkv": lambda path, frames: encode(path / "clip.mkv", frames, times=UNEQUAL),
    "variable frame rate, mp4": lambda path, frames: encode(path / "clip.mp4", frames, times=UNEQUAL),
    "turned": lambda path, frames: turned(encode(path / "clip.mp4", frames), 1),
    "truncated, index last": lambda path, frames: cut(encode(path / "clip.mp4", frames), 0.7),
    "truncated, index first": lambda path, frames: cut(
        encode(path / "clip.mp4", frames, options=FINE, muxing={"movflags": "faststart"}), 0.7
    ),
    "truncated, no index": lambda path, frames: cut(encode(path / "clip.mkv", frames, options=FINE), 0.5),
    "truncated, webm": lambda path, frames: cut(encode(path / "clip.webm", frames, codec=VP9), 0.8),
    "truncated after a few bytes": lambda path, frames: cut(encode(path / "clip.webm", frames, codec=VP9), 0.02),
    "grey": lambda path, frames: encode(path / "clip.mkv", frames, codec="ffv1", pixels="gray"),
    "with alpha": lambda path, frames: encode(path / "clip.webm", frames, codec=VP9, pixels="yuva420p"),
    "odd sides": lambda path, frames: encode(
        path / "clip.mkv", [one[:95, :159].copy() for one in frames], codec="ffv1", pixels="bgr0"
    ),
    "one frame": lambda path, frames: encode(path / "clip.mp4", frames[:1]),
}
BROKEN = {name for name in VIDEOS if name.startswith(("without", "audio", "truncated"))}


@pytest.mark.parametrize("kind", VIDEOS)
def test_an_odd_video_has_an_answer_and_a_report(kind, frames, tmp_path, capsys):
    path = VIDEOS[kind](tmp_path, frames)
    seen = verify_file(path, expected="motion")
    failed = {check.name for check in seen.checks if not check.passed}
    assert ("readable" in failed) == (kind in BROKEN), seen.checks[0]
    assert all(check.message for check in seen.checks)
    for name in ("report.html", "report.png"):
        write_report(seen, tmp_path / name, path.name)
        assert (tmp_path / name).stat().st_size > 500
    code = main(["verify", str(path), "--json", "--report", str(tmp_path / "again.html")])
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["passed"] else 3)
    readable = told["checks"][0]
    assert (readable["name"], readable["passed"]) == ("readable", kind not in BROKEN)
    assert kind not in BROKEN or re.search(r"(?i)copy or download it again|name another file", readable["message"])


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_the_rate_of_unequal_frames_is_their_mean(name, frames, tmp_path):
    path = encode(tmp_path / name, frames, times=UNEQUAL)
    seen = verify_file(path)
    assert seen.fps == pytest.approx(16 * len(frames) / (UNEQUAL[-1] + 1), rel=0.05)
    assert "on average, variable" in next(check.message for check in seen.checks if check.name == "container")
    steady = verify_file(encode(tmp_path / f"steady-{name}", frames))
    assert steady.fps == 16 and not any("variable" in check.message for check in steady.checks)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_video_is_judged_upright(quarters, face, tmp_path):
    picture, found = face, find_faces(face)[0]
    upright = list(mouths.clip(picture, found, Scene("talk", 0.08), height=110, frames=17, fps=16))
    path = turned(
        encode(tmp_path / "clip.mp4", [np.ascontiguousarray(np.rot90(one, quarters)) for one in upright]), quarters
    )
    Image.fromarray(upright[0]).save(tmp_path / "first.png")
    seen = verify_file(path, tmp_path / "first.png")
    checks = {check.name: check for check in seen.checks}
    assert "turned by" in checks["container"].message
    assert checks["first_frame"].passed and checks["first_frame"].state == "judged"
    assert not checks["mouth"].passed


PEAK = """
import resource, sys
from pathlib import Path
from wan2_i2v.eye.files import verify_file
seen = verify_file(Path(sys.argv[1]))
print(seen.checks[0].passed, len(seen.series), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_huge_video_takes_memory_for_a_few_frames_only(tmp_path):
    """8K: a frame is 95 MiB; what is held must not grow with their number."""
    wide = np.asarray(Image.fromarray(skimage.data.coffee()).resize((HUGE[0] + 160, HUGE[1])))
    peaks = []
    for count in (5, 10):
        clip = (np.ascontiguousarray(wide[:, 8 * i : 8 * i + HUGE[0]]) for i in range(count))
        path = encode(tmp_path / f"{count}.mp4", clip, options={"preset": "ultrafast"})
        told = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
        ).stdout
        readable, length, peak = told.split()
        assert (readable, int(length)) == ("True", count)
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 95
    assert peaks[1] < 2000


def crowd():
    face = Image.fromarray(skimage.data.astronaut()[0:220, 120:340]).resize((130, 130))
    picture = Image.new("RGB", (8 * 130, 5 * 130))
    for index in range(40):
        picture.paste(face, (index % 8 * 130, index // 8 * 130))
    return picture


def drawing():
    """A face as a child draws it."""
    picture = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((80, 60, 320, 340), outline="black", width=5, fill="#ffe0c0")
    for x in (150, 250):
        pen.ellipse((x - 18, 150, x + 18, 186), fill="black")
    pen.line((200, 190, 190, 240, 205, 240), fill="black", width=4)
    pen.arc((140, 220, 260, 300), 20, 160, fill="red", width=6)
    return picture


def statue():
    """A relief in stone: a portrait's light and dark as heights, lit from the left."""
    grey = Image.fromarray(skimage.data.astronaut()).convert("L").filter(ImageFilter.GaussianBlur(2))
    heights = np.asarray(grey, dtype=np.float32)
    slope = np.gradient(heights, axis=1)
    stone = np.clip(150 + 9 * slope + 0.25 * (heights - 128), 0, 255).astype(np.uint8)
    return Image.fromarray(stone).convert("RGB")


PICTURES = {
    "40 faces": crowd,
    "no face": lambda: Image.fromarray(skimage.data.coffee()),
    "an animal": lambda: Image.fromarray(skimage.data.chelsea()),
    "a drawing": drawing,
    "a statue": statue,
    "heads on coins": lambda: Image.fromarray(skimage.data.coins()),
    "a profile": lambda: Image.fromarray(skimage.data.camera()),
    "half a face": lambda: Image.fromarray(skimage.data.astronaut()[:, :225]),
    "upside down": lambda: Image.fromarray(skimage.data.astronaut()[::-1]),
    "panorama": lambda: Image.fromarray(np.hstack([skimage.data.coffee()] * 8)),
}
FACES = {"40 faces": range(30, 41), "no face": range(1), "a drawing": range(2)}


@pytest.mark.parametrize("kind", PICTURES)
def test_an_odd_picture_has_an_answer(kind, tmp_path, capsys):
    path = tmp_path / "picture.png"
    PICTURES[kind]().save(path)
    report = analyze(path)
    assert len(report.faces) in FACES.get(kind, range(5))
    assert report.mouth_risk in (("none",) if not report.faces else ("low", "high"))
    assert all(advice.reason for advice in report.advice)
    assert main(["analyze", str(path), "--json"]) == main(["analyze", str(path)]) == 0
    assert main(["plan", str(path), "--crop", "auto", "--json"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["40 faces", "a drawing", "a statue", "a profile"])
def test_a_video_of_an_odd_picture_has_an_answer(kind, tmp_path):
    still = np.asarray(PICTURES[kind]().convert("RGB").resize((640, 384)))
    path = encode(tmp_path / "clip.mp4", repeat(still, 10))
    seen = verify_file(path)
    mouth = next(check for check in seen.checks if check.name == "mouth")
    assert mouth.message and len(seen.faces) <= 4
    assert seen.faces or mouth.state == "unchecked"
    write_report(seen, tmp_path / "report.png", kind)


@pytest.mark.parametrize("crf", ["18", "23", "28"])
@pytest.mark.parametrize("kind", ["a drawing", "a statue"])
def test_a_still_face_of_ink_or_stone_does_not_speak(kind, crf, tmp_path):
    """The mesh's points tremble there, from one frame to the next and from what the codec does."""
    still = np.asarray(PICTURES[kind]().convert("RGB").resize((360, 360)))
    seen = verify_file(encode(tmp_path / "clip.mp4", repeat(still, 12), options={"crf": crf}))
    assert [face.mouth.verdict for face in seen.faces if face.mouth.verdict not in UNSEEN] in ([], ["still"])
    assert next(check for check in seen.checks if check.name == "mouth").passed


def test_a_face_turned_away_is_not_judged(tmp_path):
    still = np.asarray(PICTURES["a profile"]().convert("RGB"))
    seen = verify_file(encode(tmp_path / "clip.mp4", repeat(still, 10)))
    check = next(check for check in seen.checks if check.name == "mouth")
    assert [face.mouth.verdict for face in seen.faces] == ["turned away"]
    assert (check.state, check.message) == ("unchecked", "not checked: the face is turned away, its mouth half hidden")
