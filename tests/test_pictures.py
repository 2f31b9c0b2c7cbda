"""Pictures of every kind become exact RGB pixels of the video's size, or a clear refusal."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from wan2_i2v.errors import InvalidImage
from wan2_i2v.pictures import MAX_PIXELS, find_picture, flatten, prepare, read_facts

SIZE = (32, 48)
ORANGE = (240, 130, 20)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file made of these chunks, for what Pillow does not write itself."""
    parts = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def saved(picture: Image.Image, path: Path, **options) -> Path:
    picture.save(path, **options)
    return path


def colours(picture: Image.Image) -> np.ndarray:
    assert picture.mode == "RGB"
    return np.unique(np.asarray(picture).reshape(-1, 3), axis=0)


def assert_colour(picture: Image.Image, expected: tuple[int, int, int], within: int = 0) -> None:
    assert np.abs(colours(picture).astype(int) - expected).max() <= within, (colours(picture), expected)


def palette_picture(transparency: bytes | int | None) -> Image.Image:
    """A P picture whose pixels are all index 1 (orange); index 0 is blue."""
    picture = Image.new("P", SIZE, 1)
    picture.putpalette([0, 0, 255, *ORANGE])
    if transparency is not None:
        picture.info["transparency"] = transparency
    return picture


def with_info(picture: Image.Image, **info) -> Image.Image:
    picture.info.update(info)
    return picture


def deep(value: float, dtype: str) -> Image.Image:
    return Image.fromarray(np.full(SIZE[::-1], value, dtype=dtype))


GREY = (128, 128, 128)
WHITE = (255, 255, 255)
# name: (picture, its colour once flattened on white, tolerance in levels)
MODES: dict[str, tuple[Image.Image, tuple[int, int, int], int]] = {
    "1": (Image.new("1", SIZE, 1), WHITE, 0),
    "1 black": (Image.new("1", SIZE, 0), (0, 0, 0), 0),
    "1 with transparent white": (with_info(Image.new("1", SIZE, 0), transparency=0), WHITE, 0),
    "L": (Image.new("L", SIZE, 128), GREY, 0),
    "L with transparent grey": (with_info(Image.new("L", SIZE, 128), transparency=128), WHITE, 0),
    "L with another transparent grey": (with_info(Image.new("L", SIZE, 128), transparency=127), GREY, 0),
    "LA opaque": (Image.new("LA", SIZE, (128, 255)), GREY, 0),
    "LA transparent": (Image.new("LA", SIZE, (0, 0)), WHITE, 0),
    "LA half": (Image.new("LA", SIZE, (0, 51)), (204, 204, 204), 1),
    "La half": (Image.new("La", SIZE, (20, 51)), (224, 224, 224), 2),
    "P": (palette_picture(None), ORANGE, 0),
    "P with bytes, opaque": (palette_picture(b"\x00\xff"), ORANGE, 0),
    "P with bytes, transparent": (palette_picture(b"\xff\x00"), WHITE, 0),
    "P with bytes, half": (palette_picture(b"\xff\x80"), (247, 192, 137), 1),
    "P with int, this index": (palette_picture(1), WHITE, 0),
    "P with int, the other index": (palette_picture(0), ORANGE, 0),
    "PA": (palette_picture(None).convert("PA"), ORANGE, 0),
    "RGB": (Image.new("RGB", SIZE, ORANGE), ORANGE, 0),
    "RGB with this transparent colour": (with_info(Image.new("RGB", SIZE, ORANGE), transparency=ORANGE), WHITE, 0),
    "RGB with another transparent colour": (with_info(Image.new("RGB", SIZE, ORANGE), transparency=GREY), ORANGE, 0),
    "RGBX": (Image.new("RGBX", SIZE, (*ORANGE, 0)), ORANGE, 0),
    "RGBA opaque": (Image.new("RGBA", SIZE, (*ORANGE, 255)), ORANGE, 0),
    "RGBA transparent": (Image.new("RGBA", SIZE, (0, 0, 0, 0)), WHITE, 0),
    "RGBA half": (Image.new("RGBA", SIZE, (0, 0, 0, 128)), (127, 127, 127), 1),
    "RGBa half": (Image.new("RGBa", SIZE, (100, 50, 0, 128)), (227, 177, 127), 2),
    "CMYK": (Image.new("CMYK", SIZE, (0, 255, 255, 0)), (255, 0, 0), 1),
    "CMYK black": (Image.new("CMYK", SIZE, (0, 0, 0, 255)), (0, 0, 0), 1),
    "YCbCr": (Image.new("RGB", SIZE, ORANGE).convert("YCbCr"), ORANGE, 2),
    "LAB": (Image.new("LAB", SIZE, (255, 128, 128)), WHITE, 2),
    "HSV": (Image.new("HSV", SIZE, (0, 255, 255)), (255, 0, 0), 0),
    "I;16": (deep(128 * 257, "<u2"), GREY, 0),
    "I;16 with transparent value": (with_info(deep(300, "<u2"), transparency=300), WHITE, 0),
    "I;16B": (deep(128 * 257, ">u2"), GREY, 0),
    "I of 16 bit": (deep(128 * 257, "int32"), GREY, 0),
    "I of 8 bit": (deep(128, "int32"), GREY, 0),
    "I negative, constant": (deep(-5, "int32"), (0, 0, 0), 0),
    "F from 0 to 1": (deep(0.5, "float32"), GREY, 0),
    "F from 0 to 255": (deep(128, "float32"), GREY, 0),
    "F from 0 to 65535": (deep(128 * 257, "float32"), GREY, 0),
    "F NaN": (deep(np.nan, "float32"), (0, 0, 0), 0),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_is_flattened_to_its_colour(name):
    picture, expected, within = MODES[name]
    flat = flatten(picture, "white")
    assert flat.size == SIZE
    assert flat.info == {}
    assert_colour(flat, expected, within)


def test_float_pictures_of_another_range_are_spread_over_it():
    values = np.linspace(-40, 60, SIZE[0], dtype=np.float32)
    values[3], values[4], values[5] = np.nan, np.inf, -np.inf
    flat = np.asarray(flatten(Image.fromarray(np.tile(values, (SIZE[1], 1))), "white"))[0, :, 0]
    assert (flat[0], flat[-1]) == (0, 255)
    assert (flat[3], flat[4], flat[5]) == (0, 255, 0)


def test_the_background_is_the_users():
    clear = Image.new("RGBA", SIZE, (1, 2, 3, 0))
    assert_colour(flatten(clear, "#204060"), (0x20, 0x40, 0x60))
    assert_colour(flatten(clear, "#20406080"), (0x20, 0x40, 0x60))
    assert_colour(flatten(Image.new("LA", SIZE, (9, 0)), "red"), (255, 0, 0))


def test_hidden_colour_of_transparent_pixels_never_shows(tmp_path):
    """Black under alpha 0 beside white: a resize before flattening would leave a grey seam."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (0, 0, 31, 64))
    path = saved(picture, tmp_path / "a.png")
    assert_colour(prepare(path, 48, 48, "center", "white"), WHITE)


def test_a_16_bit_rgb_png_keeps_its_transparent_colour(tmp_path):
    clear, solid = struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC), struct.pack(">HHH", 0xFFFF, 0, 0)
    rows = (b"\0" + clear * 16 + solid * 16) * 32
    content = png(header(32, 32, 16), (b"tRNS", clear), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    (tmp_path / "deep.png").write_bytes(content)
    assert read_facts(tmp_path / "deep.png").has_alpha
    flat = prepare(tmp_path / "deep.png", 32, 32, "center", "white")
    assert (flat.getpixel((0, 0)), flat.getpixel((31, 31))) == (WHITE, (255, 0, 0))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "gif", "tif", "bmp", "ppm", "tga", "jp2", "pcx"])
def test_formats(tmp_path, suffix):
    path = saved(Image.new("RGB", SIZE, ORANGE), tmp_path / f"a.{suffix}")
    facts = read_facts(path)
    assert (facts.width, facts.height, facts.animated_frames, facts.has_alpha) == (*SIZE, 1, False)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Path(facts.path).is_absolute()
    assert_colour(prepare(path, 32, 48, "center", "white"), ORANGE, 4)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = saved(Image.new("RGB", (64, 64), ORANGE), tmp_path / "a.heic")
    assert read_facts(path).format == "HEIF"
    assert_colour(prepare(path, 32, 32, "center", "white"), ORANGE, 4)


def test_a_cmyk_jpeg_shows_its_colours(tmp_path):
    path = saved(Image.new("CMYK", SIZE, (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95)
    assert read_facts(path).mode == "CMYK"
    assert_colour(prepare(path, 32, 48, "center", "white"), (255, 0, 0), 3)


# Columns: red, green, blue in XYZ under D50, of sRGB (ICC's own profile) and of Adobe RGB (Lindbloom's tables).
SRGB = np.array([[0.43604, 0.38512, 0.14305], [0.22249, 0.71690, 0.06061], [0.01392, 0.09706, 0.71391]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])


def wide_gamut_profile() -> bytes:
    """sRGB's own profile with Adobe RGB's primaries."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE.T, strict=True))
    for index in range(struct.unpack_from(">I", profile, 128)[0]):
        tag, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if tag in primaries:
            struct.pack_into(">iii", profile, offset + 8, *(round(value * 65536) for value in primaries[tag]))
    return bytes(profile)


@pytest.mark.parametrize("alpha", [None, 255, 0])
@pytest.mark.parametrize("pixel", [(150, 170, 160), (200, 190, 120), (128, 128, 128)])
def test_an_embedded_profile_is_converted_to_srgb(tmp_path, pixel, alpha):
    value = np.array(pixel) / 255
    linear = np.linalg.solve(SRGB, ADOBE @ (((value + 0.055) / 1.055) ** 2.4))
    expected = tuple(np.rint((1.055 * linear ** (1 / 2.4) - 0.055) * 255).astype(int))
    picture = Image.new("RGB", SIZE, pixel)
    if alpha is not None:
        picture.putalpha(alpha)
    path = saved(picture, tmp_path / "a.png", icc_profile=wide_gamut_profile())
    assert_colour(prepare(path, *SIZE, "center", "white"), WHITE if alpha == 0 else expected, 2)


def test_the_srgb_profile_changes_nothing(tmp_path):
    picture = Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("L", (256, 256))])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(picture, tmp_path / "a.png", icc_profile=profile)
    kept = np.asarray(prepare(path, 256, 256, "center", "white")).astype(int)
    assert np.abs(kept - np.asarray(picture)).max() <= 1


@pytest.mark.parametrize("profile", [b"no profile at all", b"\0" * 200])
def test_a_damaged_profile_is_passed_over(tmp_path, profile):
    path = saved(Image.new("RGB", SIZE, ORANGE), tmp_path / "a.png", icc_profile=profile)
    assert_colour(prepare(path, 32, 48, "center", "white"), ORANGE)


def test_a_profile_of_another_colour_space_is_passed_over(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(Image.new("L", SIZE, 128), tmp_path / "a.png", icc_profile=profile)
    assert_colour(prepare(path, 32, 48, "center", "white"), GREY)


# Which way a camera held in each EXIF orientation stores an upright picture: the inverse of what a viewer does.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_all_orientations_give_the_same_picture(tmp_path, orientation, suffix):
    upright = Image.new("RGB", SIZE, "white")
    upright.paste(ORANGE, (0, 0, 10, 20))
    upright.paste((0, 0, 255), (20, 30, 32, 40))
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(stored, tmp_path / f"a.{suffix}", exif=exif, **options)
    facts = read_facts(path)
    assert (facts.width, facts.height, facts.rotated) == (*SIZE, orientation != 1)
    assert prepare(path, *SIZE, "center", "white").tobytes() == upright.tobytes()


def test_damaged_exif_does_not_spoil_the_picture(tmp_path):
    path = saved(Image.new("RGB", SIZE, ORANGE), tmp_path / "a.jpg", exif=b"Exif\0\0garbage garbage garbage")
    assert read_facts(path).rotated is False
    assert_colour(prepare(path, *SIZE, "center", "white"), ORANGE, 3)


@pytest.mark.parametrize(("crop", "band"), [("top", 0), ("center", 1), ("bottom", 2)])
def test_crop_keeps_the_part_that_was_asked_for(tmp_path, crop, band):
    bands = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    picture = Image.new("RGB", (64, 192))
    for index, colour in enumerate(bands):
        picture.paste(colour, (0, 64 * index, 64, 64 * index + 64))
    assert_colour(prepare(saved(picture, tmp_path / "a.png"), 64, 64, crop, "white"), bands[band])


@pytest.mark.parametrize("crop", ["center", "top", "bottom"])
def test_a_wide_picture_keeps_its_horizontal_centre(tmp_path, crop):
    picture = Image.new("RGB", (192, 64), "red")
    picture.paste((0, 255, 0), (64, 0, 128, 64))
    prepared = prepare(saved(picture, tmp_path / "a.png"), 32, 32, crop, "white")
    # The kernel of the outermost columns reaches over the edge of the box, as in a resize of the whole picture.
    assert_colour(prepared.crop((3, 0, 29, 32)), (0, 255, 0), 1)


@pytest.mark.parametrize("target", [(160, 96), (96, 160), (320, 320), (64, 64), (208, 112)])
def test_a_circle_stays_a_circle(tmp_path, target):
    picture = Image.new("L", (500, 401), 0)
    ImageDraw.Draw(picture).ellipse((190, 140, 310, 260), fill=255)
    disc = np.asarray(prepare(saved(picture, tmp_path / "a.png"), *target, "center", "white"))[:, :, 0] / 255.0
    rows, columns = np.indices(disc.shape)
    spread = [
        np.sqrt(np.average((axis - np.average(axis, weights=disc)) ** 2, weights=disc)) for axis in (rows, columns)
    ]
    assert spread[0] / spread[1] == pytest.approx(1, abs=0.01)
    # A disc of radius r has a standard deviation of r / 2 along each axis.
    scale = max(target[0] / 500, target[1] / 401)
    assert spread[0] == pytest.approx(60.5 * scale / 2, rel=0.03)


def test_downscale_is_antialiased(tmp_path):
    checks = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    small = np.asarray(prepare(saved(Image.fromarray(checks), tmp_path / "a.png"), 80, 80, "center", "white"))
    assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 3


def test_same_size_is_untouched(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 32, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / "a.png")
    assert (np.asarray(prepare(path, 32, 48, "top", "white")) == noise).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_animated_pictures_the_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", SIZE, colour) for colour in (ORANGE, "blue", "green")]
    path = saved(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=50)
    assert read_facts(path).animated_frames == 3
    assert_colour(prepare(path, *SIZE, "center", "white"), ORANGE, 4)


def test_a_phones_second_picture_is_no_animation(tmp_path):
    frames = [Image.new("RGB", SIZE, colour) for colour in (ORANGE, "blue")]
    path = saved(frames[0], tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert read_facts(path).animated_frames == 1


@pytest.mark.parametrize(("alpha", "expected"), [(255, False), (250, False), (249, True), (0, True)])
def test_has_alpha_means_a_pixel_that_shows_the_background(tmp_path, alpha, expected):
    picture = Image.new("RGBA", SIZE, (*ORANGE, 255))
    picture.putpixel((3, 3), (*ORANGE, alpha))
    assert read_facts(saved(picture, tmp_path / "a.png")).has_alpha is expected


FILE_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    target=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    mode=st.sampled_from(FILE_MODES),
    crop=st.sampled_from(["center", "top", "bottom"]),
)
def test_always_exactly_the_target_size(tmp_path_factory, size, target, mode, crop):
    path = tmp_path_factory.getbasetemp() / "any.png"
    Image.new(mode, size).save(path)
    width, height = target[0] * 16, target[1] * 16
    prepared = prepare(path, width, height, crop, "white")
    assert (prepared.mode, prepared.size) == ("RGB", (width, height))


# ---- refusals


def refusal(path: Path) -> str:
    """The message with which both entries refuse a file."""
    with pytest.raises(InvalidImage) as first:
        read_facts(path)
    with pytest.raises(InvalidImage):
        prepare(path, 32, 32, "center", "white")
    assert first.value.field == "image"
    assert str(path)[-20:] in str(first.value)
    return str(first.value)


CONTENTS = {
    "empty": (b"", "empty"),
    "text": (b"just some words, no picture at all " * 20, "No known picture format"),
    "random": (bytes(np.random.default_rng(1).integers(0, 256, 5000, dtype=np.uint8)), "allowed"),
    "pdf": (b"%PDF-1.7\n%....", "PDF: export the page"),
    "svg": (b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG drawing"),
    "bare svg": (b"  <svg width='10'></svg>", "SVG drawing"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "PostScript"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 100, "video"),
    "matroska": (b"\x1aE\xdf\xa3" + b"\0" * 100, "video"),
    "png header only": (b"\x89PNG\r\n\x1a\n", "allowed"),
    "png without pixels": (png(header(32, 32), (b"IEND", b"")), "damaged"),
    "bomb": (png(header(60000, 60000), (b"IDAT", zlib.compress(b"\0" * 1000))), "This one has 3,600 megapixels"),
    "just above the limit": (png(header(14000, 12501), (b"IDAT", zlib.compress(b"\0" * 1000))), "14000×12501"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_that_are_no_picture(tmp_path, name):
    content, expected = CONTENTS[name]
    path = tmp_path / "given.png"
    path.write_bytes(content)
    message = refusal(path)
    assert expected in message
    assert "allowed: a" in message


def test_heic_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    monkeypatch.setattr("wan2_i2v.pictures.FORMATS", ("PNG",))
    assert "wan2-i2v[heif]" in refusal(path)


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
def test_too_small(tmp_path, size):
    message = refusal(saved(Image.new("RGB", size), tmp_path / "a.png"))
    assert "at least 16 pixels" in message
    assert f"{size[0]}×{size[1]}" in message


def test_the_limit_is_below_pillows_own():
    """Else Pillow would refuse first, in its own words."""
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 2 * Image.MAX_IMAGE_PIXELS > MAX_PIXELS > Image.MAX_IMAGE_PIXELS


def test_missing_folder_and_special_files(tmp_path):
    assert "existing file" in refusal(tmp_path / "gone.png")
    assert "not a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert "regular file" in refusal(tmp_path / "pipe.png")
    assert "readable file" in refusal(tmp_path / ("x" * 300 + ".png"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = saved(Image.new("RGB", SIZE), tmp_path / "a.png")
    path.chmod(0)
    assert "permissions" in refusal(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp", "avif", "jp2"])
@settings(max_examples=12, deadline=None)
@given(share=st.floats(0.0, 0.9))
def test_truncated_files(tmp_path_factory, suffix, share):
    """Whatever the cut, the answer is a refusal: no crash, and no picture with a grey lower half."""
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix.upper()))
    whole = buffer.getvalue()
    path = tmp_path_factory.getbasetemp() / f"cut.{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert re.search(r"damaged|empty|No known|allowed: a picture", refusal(path))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "TGA", "PCX", "ICO"]))
def test_damaged_bytes_are_refused_or_decoded_never_a_crash(tmp_path_factory, data, suffix):
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save(buffer, suffix)
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=12)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        facts = read_facts(path)
    except InvalidImage:
        return
    assert prepare(path, 32, 32, "center", "white").size == (32, 32)
    assert facts.width >= 16


# ---- finding


def test_find_takes_the_path_as_given_first(tmp_path, monkeypatch):
    inputs = tmp_path / "input"
    inputs.mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, inputs):
        saved(Image.new("RGB", SIZE), folder / "both.png")
    saved(Image.new("RGB", SIZE), inputs / "portrait.png")
    assert find_picture("both.png", inputs) == Path("both.png")
    assert find_picture(str(inputs / "both.png"), inputs) == inputs / "both.png"
    assert find_picture("portrait.png", inputs) == inputs / "portrait.png"
    with pytest.raises(InvalidImage) as caught:
        find_picture("portait.png", inputs)
    message = str(caught.value)
    assert str(tmp_path) in message and str(inputs) in message and "Did you mean 'portrait.png'?" in message


def test_find_looks_only_for_bare_names_in_the_input_folder(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    saved(Image.new("RGB", SIZE), tmp_path / "sub" / "a.png")
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(InvalidImage, match=r"Looked in .*elsewhere\. Check the name"):
        find_picture("elsewhere/a.png", tmp_path)


@pytest.mark.parametrize("name", ["https://example.org/a.png", "~nobody-here.png", "x" * 5000, "..x..png"])
def test_find_refuses_odd_names(tmp_path, name):
    with pytest.raises(InvalidImage):
        find_picture(name, tmp_path)


def test_find_a_name_that_begins_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(Image.new("RGB", SIZE), tmp_path / "~draft.png")
    assert find_picture("~draft.png", tmp_path).name == "~draft.png"
