"""What a picture's report means for a video of it: `advise`. Imported by `picture`."""

from __future__ import annotations

from wan2_i2v import geometry
from wan2_i2v.eye import cropping
from wan2_i2v.eye.findings import Advice, PictureReport
from wan2_i2v.presets import PROMPT_PRESETS

CLEAR_SHARE = 0.005
"""Share of (partly) transparent pixels from which transparency matters; many pictures carry an opaque alpha channel."""
SOFT = 15.0
"""Variance of the Laplacian below which a picture looks soft."""
DARK, BRIGHT, CLIPPED = 20.0, 90.0, 0.2
"""Mean L* of a dark and of a bright picture, and the share of pixels at 0 or 255 that is much."""
BLOCKY = 1.35
"""Steps at the borders of JPEG's 8 × 8 blocks over steps elsewhere."""
ENLARGED = 1.5
PORTRAIT = 0.18
"""Face height over picture height from which a picture is a portrait."""
KEPT = 0.95
"""Share of the faces or the subject that a crop should keep."""
TRAINED_FRAMES = 81


def advise(report: PictureReport, focus: cropping.Box) -> tuple[Advice, ...]:
    """What to choose, then what to beware of. `focus`: the box of the faces, else of the subject."""
    return (*_size_and_crop(report, focus), *_words(report), *_warnings(report))


def _size_and_crop(report: PictureReport, focus: cropping.Box) -> list[Advice]:
    source, size = (report.width, report.height), report.size
    loss = geometry.crop_loss(source, size)
    cut = (
        "nothing is cut" if loss < 0.005 else f"{loss:.0%} of the picture is cut away, the least of the sizes on offer"
    )
    kept = cropping.kept_share(focus, geometry.crop_box(source, size, report.crop))
    what = "the faces" if report.faces else "the subject"
    crop: str = report.crop
    reason = f"keeps {kept:.0%} of {what}"
    if kept < KEPT:
        automatic = cropping.kept_share(focus, _floats(report.crop_box))
        crop, reason = "auto", f"keeps {automatic:.0%} of {what}; center, top and bottom at most {kept:.0%}"
    return [
        Advice(
            about="size",
            value=f"{size[0]}x{size[1]}",
            reason=f"closest to the picture's {source[0]}×{source[1]}: {cut}",
        ),
        Advice(about="crop", value=crop, reason=reason),
    ]


def _words(report: PictureReport) -> list[Advice]:
    """Preset, length, and both prompts. What a picture without people shall do, nobody can see in it."""
    tallest = max((face.height for face in report.faces), default=0)
    if tallest > PORTRAIT * report.height:
        return _of_preset("static-portrait", "a large face fills the picture", "a calm portrait")
    if tallest:
        return _of_preset("character-animation", "people are seen, none of them close up", "one gesture")
    return [
        Advice(about="preset", value="none", reason="no face is seen: say in your own words what moves"),
        Advice(about="num_frames", value=str(TRAINED_FRAMES), reason="the length that the model was trained for"),
        Advice(
            about="prompt",
            value="own",
            reason="one sentence: who or what, one action, where, in which light; wan2-i2v prompt composes and checks it",
        ),
        Advice(about="negative_prompt", value="none", reason="nobody is seen; mouth prevention is added by itself"),
    ]


def _of_preset(name: str, why: str, shown: str) -> list[Advice]:
    preset = PROMPT_PRESETS[name]
    seconds = preset.num_frames / 24
    return [
        Advice(about="preset", value=name, reason=why),
        Advice(
            about="num_frames",
            value=str(preset.num_frames),
            reason=f"{shown} needs no more than {seconds:.0f} s at 24 fps",
        ),
        Advice(
            about="prompt",
            value=preset.prompt,
            reason="the preset's words; say who is seen instead of the general word",
        ),
        Advice(about="negative_prompt", value=preset.negative_prompt, reason="faces are seen: keeps mouths still"),
    ]


def _warnings(report: PictureReport) -> list[Advice]:
    scale = geometry.upscale_factor((report.width, report.height), report.size)
    risky = report.mouth_risk == "high"
    found = [
        (
            report.transparent_share > CLEAR_SHARE,
            "background",
            "white",
            f"{report.transparent_share:.0%} of the pixels are transparent; they are put on one colour, choose it with --background",
        ),
        (
            risky,
            "negative_prompt",
            "mouth",
            "a mouth is large enough to be seen moving; keep the mouth-prevention negative and describe closed lips",
        ),
        (
            any(face.mouth_open for face in report.faces[:4]) and risky,
            "prompt",
            "expression",
            "a mouth is open in the picture; the model may close and open it again",
        ),
        (
            report.sharpness < SOFT,
            "picture",
            "sharper",
            f"the picture looks soft (sharpness {report.sharpness:.0f}); the video will be no sharper",
        ),
        (report.brightness < DARK, "picture", "brighter", f"the picture is dark (L* {report.brightness:.0f} of 100)"),
        (
            report.brightness > BRIGHT,
            "picture",
            "darker",
            f"the picture is very bright (L* {report.brightness:.0f} of 100)",
        ),
        (
            report.clipped_share > CLIPPED and report.background == "busy",
            "picture",
            "exposure",
            f"{report.clipped_share:.0%} of the pixels are pure black or white",
        ),
        (
            report.jpeg_blockiness > BLOCKY,
            "picture",
            "original",
            "JPEG blocks are visible; use a better copy if there is one",
        ),
        (
            scale > ENLARGED,
            "size",
            "smaller",
            f"the picture is enlarged {scale:.1f} times; a smaller size or a larger picture gives more detail",
        ),
    ]
    return [
        Advice(about=about, value=value, reason=reason, urgency="warning")
        for wanted, about, value, reason in found
        if wanted
    ]


def _floats(box: tuple[int, int, int, int]) -> cropping.Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])
