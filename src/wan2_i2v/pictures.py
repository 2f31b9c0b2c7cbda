"""Pictures: find, check, and turn any of them into RGB pixels of the video's size. A leaf: Pillow and NumPy, no torch.

Comes in: a file of any format and mode that Pillow reads. Goes out: `ImageFacts` for the plan (doors ask, before
anything loads), and the prepared picture (the preprocess stage asks). Every refusal is an `InvalidImage`.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from wan2_i2v import geometry
from wan2_i2v.errors import InvalidImage, nearest
from wan2_i2v.plan import Box, ImageFacts
from wan2_i2v.request import Crop, describe_path

MIN_SIDE = 16
MAX_PIXELS = 175_000_000
"""Below Pillow's own hard limit (178,956,970), so that ours decides and says what to do; RGBA takes 4 bytes each."""

OPAQUE = 250
"""Alpha from which a pixel counts as opaque: lossy formats leave 254 where 255 was."""

FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "DIB"),
    *("PPM", "TGA", "ICO", "ICNS", "JPEG2000", "PSD", "QOI", "DDS", "SGI", "PCX"),
)
"""Pixel formats only: Pillow would hand EPS and WMF to other programs, and those may not see a stranger's file."""

READABLE = "a JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP or HEIC picture"

# What people give instead of a picture, by the file's beginning, and what they can do.
OTHER_CONTENT: tuple[tuple[str, str], ...] = (
    (r"%PDF", "This is a PDF: export the page as PNG."),
    (r"%!PS|\xc5\xd0\xd3\xc6", "This is PostScript: export it as PNG."),
    (r"\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg", "This is an SVG drawing: export it as PNG."),
    (r"\s*<(!doctype )?html", "This is a web page: save the picture itself."),
    (r"....ftyp(hei|hev|mif|msf)", "This is a HEIC photo: pip install wan2-i2v[heif], or save it as JPEG."),
    (r"....ftyp(?!avi)|\x1aE\xdf\xa3|RIFF....AVI", "This is a video: save one of its frames as PNG."),
)

# Colour spaces of ICC profiles (ICC.1, "data colour space"), by the mode of the pixels that they describe.
PROFILE_SPACE = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


@dataclass(frozen=True)
class _Decoded:
    """A picture's first frame, upright, with what only the file tells. `mode` is that of the file."""

    upright: Image.Image
    mode: str
    format: str
    frames: int
    rotated: bool


def find_picture(name: str, input_folder: Path, field: str = "image") -> Path:
    """The picture that a user's `name` means: that path, else a bare file name in `input_folder`.

    Raises InvalidImage that names the field, the places looked at and the nearest name there.
    """
    given = describe_path(name)
    bare = given.name == name
    places = [given, input_folder / name] if bare else [given]
    for place in places:
        if _exists(place):
            return place
    if re.match(r"(https?|ftp)://", name):
        raise InvalidImage(field, name, "a file on this machine", "Download the picture first.")
    folders = dict.fromkeys(str(place.parent.absolute()) for place in places)
    raise InvalidImage(
        field, name, "an existing file", f"Looked in {' and '.join(folders)}. {_suggest(given, folders)}"
    )


def read_facts(path: Path, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """What the plan needs to know. The picture is decoded once, so that a damaged one is refused here.

    One of more than `max_pixels` is refused before it is decoded.

    Raises InvalidImage.
    """
    digest = sha256(path)
    decoded = _decode(path, max_pixels)
    alpha = _layers(decoded.upright)[1]
    width, height = decoded.upright.size
    return ImageFacts(
        path=str(path.absolute()),
        sha256=digest,
        width=width,
        height=height,
        mode=decoded.mode,
        format=decoded.format,
        has_alpha=alpha is not None and bool(np.asarray(alpha).min() < OPAQUE),
        animated_frames=decoded.frames,
        rotated=decoded.rotated,
    )


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes.

    Raises InvalidImage when it is no readable file, or empty.
    """
    _check_file(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidImage(
            "image", str(path), "a readable file", f"{error.strerror}: check its permissions."
        ) from error


def upright(path: Path) -> Image.Image:
    """The first frame, turned upright, in its own mode, all pixels loaded.

    Raises InvalidImage.
    """
    return _decode(path).upright


def prepare(path: Path, width: int, height: int, crop: Crop, background: str, box: Box | None = None) -> Image.Image:
    """The first frame as RGB, `width` × `height`, upright, in sRGB, alpha on `background`, cropped and never stretched.

    `box` (left, top, right, bottom in pixels of the upright picture, of the aspect wanted) replaces `crop`.

    Lanczos over the exact (fractional) crop box; Pillow widens the kernel with the scale, so shrinking is antialiased.

    Raises InvalidImage.
    """
    flat = flatten(_decode(path).upright, background)
    chosen = geometry.crop_box(flat.size, (width, height), crop) if box is None else box
    return flat.resize((width, height), Image.Resampling.LANCZOS, box=chosen)


def flatten(picture: Image.Image, background: str) -> Image.Image:
    """A picture of any mode as RGB in sRGB, transparent pixels on `background` (a colour that ImageColor knows).

    Done at full size: after a resize, the hidden colour of transparent pixels would have bled into the visible ones.
    """
    colour, alpha = _layers(picture)
    flat = _to_srgb(colour, picture.info.get("icc_profile"))
    if alpha is not None:
        under = Image.new("RGB", flat.size, ImageColor.getrgb(background)[:3])
        flat = Image.composite(flat, under, alpha)
    # What is left there (profile, transparent colour, EXIF) is applied already and would be applied again by readers.
    flat.info.clear()
    return flat


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name that no file can have (too long: somebody's base64) or a folder that may not be looked into.
        return False


def _suggest(given: Path, folders: Iterable[str]) -> str:
    """The nearest file name in `folders`; nothing when there is none to suggest."""
    names: set[str] = set()
    for folder in map(Path, folders):
        if _exists(folder) and folder.is_dir():
            names.update(entry.name for entry in folder.iterdir() if entry.is_file())
    hint = nearest(given.name, names)
    return hint if hint.startswith("Did you mean") else "Check the name."


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise InvalidImage("image", str(path), "an existing file", "Check the name.")
        if path.is_dir():
            raise InvalidImage("image", str(path), "a picture, not a folder", "Name one of the pictures in it.")
        if not path.is_file():
            raise InvalidImage("image", str(path), "a regular file", "Copy the picture into one.")
        if path.stat().st_size == 0:
            raise InvalidImage("image", str(path), READABLE, "The file is empty: copy or download it again.")
    except OSError as error:
        raise InvalidImage("image", str(path), "a readable file", f"{error.strerror}: check its path.") from error


def _decode(path: Path, max_pixels: int = MAX_PIXELS) -> _Decoded:
    """Decode the first frame.

    Raises InvalidImage for what is no picture, damaged, too small, or too large to decode safely.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes below our limit, and of metadata that plays no part here.
            warnings.simplefilter("ignore")
            return _load(path, max_pixels)
    except (InvalidImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise InvalidImage("image", str(path), READABLE, _what_it_is(path)) from None
    except Image.DecompressionBombError as error:
        raise _too_large(path, _pixels(error)) from None
    except PermissionError as error:
        raise InvalidImage("image", str(path), "a readable file", "Check its permissions.") from error
    except Exception as error:
        # Pillow's decoders answer damaged bytes with almost any exception type.
        hint = f"It is damaged or cut short ({error}): copy or download it again."
        raise InvalidImage("image", str(path), "a picture that can be decoded", hint) from error


def _load(path: Path, max_pixels: int) -> _Decoded:
    _register_heif()
    Image.init()
    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
        if picture.width * picture.height > max_pixels:
            raise _too_large(path, f"{picture.width}×{picture.height}", max_pixels)
        if min(picture.size) < MIN_SIDE:
            allowed = f"a picture with sides of at least {MIN_SIDE} pixels"
            raise InvalidImage("image", str(path), allowed, f"This one is {picture.width}×{picture.height}.")
        # Further pictures in these two are a preview or layers; the first is whole.
        frames = 1 if picture.format in ("MPO", "PSD") else int(getattr(picture, "n_frames", 1))
        mode, rotated = picture.mode, picture.getexif().get(0x0112, 1) in range(2, 9)
        picture.load()
        return _Decoded(ImageOps.exif_transpose(picture), mode, picture.format or "", frames, rotated)


@lru_cache(maxsize=1)
def _register_heif() -> None:
    """Let Pillow read HEIC where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _too_large(path: Path, size: str, max_pixels: int = MAX_PIXELS) -> InvalidImage:
    allowed = f"a picture of at most {max_pixels / 10**6:g} megapixels"
    return InvalidImage("image", str(path), allowed, f"This one has {size}: save a smaller copy.")


def _pixels(error: Image.DecompressionBombError) -> str:
    """The size in Pillow's refusal, which comes before the picture can be asked."""
    found = re.search(r"(\d+) pixels", str(error))
    return f"{int(found[1]) / 1e6:,.0f} megapixels" if found else "more"


def _what_it_is(path: Path) -> str:
    """A sentence about a file that is no picture."""
    with path.open("rb") as stream:
        start = stream.read(1024).decode("latin-1")
    for pattern, sentence in OTHER_CONTENT:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return sentence
    return "No known picture format: open it in an image program and save it as PNG."


def _layers(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour without alpha (L, RGB, CMYK, YCbCr, LAB or HSV, 8 bit) and, where there is one, its alpha band (L)."""
    mode, key = picture.mode, picture.info.get("transparency")
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _deep_layers(picture, key)
    if mode == "La":
        picture = picture.convert("LA")
    elif picture.has_transparency_data and mode != "LA":
        if mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
            # A 16-bit PNG: Pillow keeps the high bytes of the pixels, but all of the transparent colour.
            picture = picture.copy()
            picture.info["transparency"] = tuple(value >> 8 for value in key)
        picture = picture.convert("RGBA")
    elif mode == "1":
        picture = picture.convert("L")
    elif mode in ("P", "RGBX"):
        picture = picture.convert("RGB")
    if picture.mode in ("LA", "RGBA"):
        *bands, alpha = picture.split()
        return Image.merge(picture.mode[:-1], bands), alpha
    return picture, None


def _deep_layers(picture: Image.Image, key: Any) -> tuple[Image.Image, Image.Image | None]:
    """`_layers` of one band of more than 8 bit. `key` is the value that a PNG declares transparent."""
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        grey = _scaled(values.astype(np.float32), 0, 65535)
    else:
        grey = _scaled(values.astype(np.float32), *_value_range(values))
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
    return Image.fromarray(grey), alpha


def _value_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """What is black and what is white in 32-bit pixels, whose file does not say.

    The smallest of the ranges in use that holds all values: 0…1 (rendered and scientific float pictures), 0…255, then
    0…65535 (16-bit PNM and TIFF files arrive like this); a wider one would leave such a picture black. Values outside
    of all three, like heights or temperatures, are spread from their least to their greatest.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    return next(((0.0, float(top)) for top in tops if low >= 0 and high <= top), (low, high))


def _scaled(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.uint8]:
    """`low`…`high` as 0…255, rounded; infinities become the ends and NaN becomes black."""
    finite = np.nan_to_num(values, nan=low, neginf=low, posinf=high)
    return np.asarray(np.rint((finite - low) * (255 / ((high - low) or 1))).clip(0, 255), dtype=np.uint8)


def _to_srgb(colour: Image.Image, profile: bytes | None) -> Image.Image:
    """As RGB in sRGB: through the embedded ICC profile where it describes these pixels.

    Relative colorimetric with black point compensation, what image programs use for photos. A profile that is damaged,
    or of another colour space than the pixels, says nothing; they count as sRGB then, as in every viewer.
    """
    if not profile or colour.mode not in PROFILE_SPACE:
        return colour.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != PROFILE_SPACE[colour.mode]:
            return colour.convert("RGB")
        converted = ImageCms.profileToProfile(
            colour,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return colour.convert("RGB")
    assert converted is not None
    return converted
