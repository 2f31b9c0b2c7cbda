"""Analysis of pictures, on pictures whose answer is known and on odd ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

from wan2_i2v.doors.cli import main
from wan2_i2v.errors import CheckpointError, InvalidImage
from wan2_i2v.eye import faces
from wan2_i2v.eye.cropping import crop_box, kept_share
from wan2_i2v.eye.picture import PictureReport, analyze, auto_crop
from wan2_i2v.geometry import WAN_SIZES
from wan2_i2v.presets import PROMPT_PRESETS


def abouts(report):
    return {advice.about for advice in report.advice if advice.urgency == "warning"}


def test_a_portrait():
    report = analyze(Image.fromarray(skimage.data.astronaut()))
    assert len(report.faces) == 1
    assert report.mouth_risk == "high"
    assert "negative_prompt" in abouts(report)
    assert report.size == (720, 720)
    assert all(advice.reason for advice in report.advice)
    assert PictureReport.model_validate_json(report.model_dump_json()) == report


def chosen(report):
    return {advice.about: advice.value for advice in report.advice if advice.urgency == "info"}


def test_every_picture_gets_a_size_a_crop_a_preset_a_length_and_a_pair_of_prompts():
    small = Image.new("RGB", (1200, 900), (90, 100, 110))
    small.paste(Image.fromarray(skimage.data.astronaut()), (300, 200))
    presets = {"static-portrait": skimage.data.astronaut(), "character-animation": np.asarray(small)}
    for name, pixels in presets.items():
        found = chosen(analyze(Image.fromarray(pixels)))
        preset = PROMPT_PRESETS[name]
        assert found["preset"] == name
        assert found["num_frames"] == str(preset.num_frames)
        assert (found["prompt"], found["negative_prompt"]) == (preset.prompt, preset.negative_prompt)
    found = chosen(analyze(Image.fromarray(skimage.data.coffee())))
    assert (found["preset"], found["num_frames"], found["prompt"]) == ("none", "81", "own")


def test_all_sizes_on_offer_are_compared_with_the_pictures_aspect():
    report = analyze(Image.new("RGB", (1440, 960)))
    assert [(one.width, one.height) for one in report.offers] == list(WAN_SIZES)
    cuts = {(one.width, one.height): one.cut_share for one in report.offers}
    assert cuts[720, 480] == 0 and cuts[720, 720] == pytest.approx(1 / 3, abs=1e-4)
    assert report.size == min(cuts, key=cuts.get)


def test_a_face_that_the_edge_cuts_ends_there():
    """The mesh goes on with it; the crop was then said to lose what never was in the picture."""
    report = analyze(Image.fromarray(skimage.data.astronaut()[:, :225]))
    left, top, right, bottom = report.faces[0].box
    assert 0 <= left < right <= 225 and 0 <= top < bottom <= 512
    assert next(advice.reason for advice in report.advice if advice.about == "crop") == "keeps 100% of the faces"


def test_the_command_says_all_of_it(tmp_path, capsys):
    picture = Image.fromarray(skimage.data.astronaut()).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 64, 64))
    picture.save(tmp_path / "picture.png")
    assert main(["analyze", str(tmp_path / "picture.png")]) == 0
    told = capsys.readouterr().out
    for words in (
        "transparent: 1.6% of the pixels",
        "background: busy, #",
        "faces: 1 (",
        "high mouth risk",
        "subject: ",
        "quality: sharpness ",
        "JPEG blocks 1.0",
        "720×720 cuts 0%",
        "advice: preset static-portrait: ",
    ):
        assert words in told


def test_a_drawing_on_a_solid_ground():
    picture = Image.new("RGB", (400, 300), (250, 240, 230))
    ImageDraw.Draw(picture).ellipse((60, 100, 160, 220), fill=(200, 30, 30))
    report = analyze(picture)
    assert report.background == "solid" and report.subject_certain
    assert np.allclose(report.subject, (60, 100, 161, 221), atol=6)
    assert report.faces == () and report.mouth_risk == "none"


@pytest.mark.parametrize(("alpha", "warned"), [(255, False), (0, True)])
def test_alpha_counts_only_where_it_is_used(alpha, warned):
    picture = Image.fromarray(skimage.data.coffee()).convert("RGBA")
    picture.paste((0, 0, 0, alpha), (0, 0, 100, 100))
    report = analyze(picture)
    assert ("background" in abouts(report)) is warned


def test_exif_orientation_comes_first(tmp_path):
    path = tmp_path / "turned.jpg"
    image = Image.fromarray(skimage.data.coffee())
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    report = analyze(path)
    assert (report.width, report.height) == (400, 600)


def test_jpeg_damage_is_seen():
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).save(buffer, format="JPEG", quality=8)
    assert (
        analyze(Image.open(buffer)).jpeg_blockiness
        > 1.35
        > analyze(Image.fromarray(skimage.data.coffee())).jpeg_blockiness
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 48)])
def test_every_mode_and_size_has_an_answer(mode, size):
    assert analyze(Image.new(mode, size)).size


def test_forty_faces():
    face = Image.fromarray(skimage.data.astronaut()[0:220, 120:340]).resize((130, 130))
    picture = Image.new("RGB", (8 * 130, 5 * 130))
    for index in range(40):
        picture.paste(face, (index % 8 * 130, index // 8 * 130))
    assert len(analyze(picture).faces) >= 30


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"not a picture"])
def test_no_picture_is_an_error_of_ours(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(InvalidImage):
        analyze(path)
    with pytest.raises(InvalidImage):
        analyze(tmp_path / "missing.png")


@pytest.mark.parametrize("target", [(832, 480), (480, 832), (720, 720)])
def test_auto_crop_keeps_the_face(target):
    picture = Image.new("RGB", (1200, 1600), (90, 100, 110))
    picture.paste(Image.fromarray(skimage.data.astronaut()), (650, 60))
    box = auto_crop(picture, target)
    face = analyze(picture).faces[0].box
    assert kept_share(face, box) > 0.99
    assert 0 <= box[0] < box[2] <= 1200.001 and 0 <= box[1] < box[3] <= 1600.001
    assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(target[0] / target[1])


def test_crop_without_anything_to_keep_is_centred():
    assert crop_box((200, 100), (100, 100), (), None) == (50, 0, 150, 100)


def test_damaged_nets_are_refused(monkeypatch):
    monkeypatch.setitem(faces.NETS, "face_landmark.tflite", "0" * 64)
    faces._net.cache_clear()
    with pytest.raises(CheckpointError):
        faces._net("face_landmark.tflite")
    faces._net.cache_clear()
