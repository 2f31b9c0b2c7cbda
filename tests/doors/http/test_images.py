"""From what a request says of a picture to its bytes; no name leads out of `input/`."""

from __future__ import annotations

import base64

import pytest
from local_server import peer

from wan2_i2v.doors.http import images
from wan2_i2v.doors.http.errors import TooLarge, UrlRefused
from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.errors import InvalidImage, Wan2I2VError

SETTINGS = HttpSettings(max_upload_bytes=3000)


@pytest.fixture
def inputs(folders, picture):
    (folders / "input" / "boat.png").write_bytes(picture)
    (folders / "outside.png").write_bytes(picture)
    (folders / "input" / "folder.png").mkdir()
    (folders / "input" / "out.png").symlink_to(folders / "outside.png")
    (folders / "input" / "same.png").symlink_to("boat.png")
    return folders


@pytest.mark.parametrize("name", ["boat.png", "input/boat.png", "/content/ComfyUI/input/boat.png", "same.png"])
def test_a_file_name_in_input(inputs, picture, name):
    assert images.from_text(name, SETTINGS) == picture


def test_base64_in_every_usual_dress(inputs, picture):
    plain = base64.b64encode(picture).decode()
    wrapped = "\n".join(plain[start : start + 76] for start in range(0, len(plain), 76))
    for text in (plain, wrapped, plain.rstrip("="), base64.urlsafe_b64encode(picture).decode()):
        assert images.from_text(text, SETTINGS) == picture
        assert images.from_text(f"data:image/png;base64,{text}", SETTINGS) == picture
    assert images.from_text("data:,%89PNG", SETTINGS) == b"\x89PNG"


@pytest.mark.parametrize(
    "value",
    [
        *("../outside.png", "..", ".", "input/../../outside.png", "/etc/passwd", "~/x.png", "folder.png", "out.png"),
        *("a/b.png", "..\\outside.png", "boat.png\0.jpg", "C:\\boat.png", "input/input/../boat.png", "none.png", ""),
        *(
            "file:///etc/passwd",
            "ftp://example.com/a.png",
            "javascript:alert(1)",
            "data:image/png;base64,***",
            "a." * 150,
        ),
        *(
            "/content/ComfyUI/input/../../etc/passwd",
            "%2e%2e%2foutside.png",
            "....//outside.png",
            "data:image/png;base64,",
        ),
    ],
)
def test_nothing_else_is_opened(inputs, value):
    with pytest.raises(InvalidImage) as refusal:
        images.from_text(value, SETTINGS, "input_image")
    assert refusal.value.field == "input_image"


def test_sizes_are_limited_wherever_the_bytes_come_from(inputs):
    (inputs / "input" / "large.png").write_bytes(bytes(3001))
    large = base64.b64encode(bytes(3001)).decode()
    for value in ("large.png", large, f"data:image/png;base64,{large}"):
        with pytest.raises(TooLarge):
            images.from_text(value, SETTINGS)
    with peer() as other:
        other.answers = {"/a": (200, {}, bytes(3001))}
        for trusted in ("", f"127.0.0.1:{other.port}"):
            with pytest.raises(UrlRefused):
                images.from_text(f"{other.url}/a", HttpSettings(max_upload_bytes=3000, trusted_hosts=trusted))
        assert len(other.asked) == 1


def test_refusals_do_not_repeat_a_whole_upload(inputs):
    with pytest.raises(Wan2I2VError) as refusal:
        images.from_text("*" * 100_000, SETTINGS)
    assert len(str(refusal.value)) < 400
