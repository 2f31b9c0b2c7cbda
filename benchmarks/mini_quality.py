"""How well `mini` does what prompts ask, on pictures that it was never trained on.

Pictures: scikit-image's and scikit-learn's samples, or `--images DIR`. For each motion and picture a held-out wording, for
each recipe and seed a clip through the package's own API; its motion is the one whose formula, put to the same picture, has the
optical flow most like the clip's; the last frame is compared with the picture moved by the asked motion's formula. The knowledge
base's five sample prompts are judged by which of all motions' formulas the clip is nearest to; other sizes and lengths as the
first; and what the experts do when they are swapped or one is left out by a zoom's last frame and by the fireworks' light.
Prints a table, writes a contact sheet, and prints one JSON object as the last line.

    python benchmarks/mini_quality.py [--images DIR] [--pictures 4] [--seeds 1] [--size 256] [--frames 73] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from datetime import date
from functools import cache
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reporting
from training.phrases import HELD_OUT

from training import motions, wording
from wan2_i2v import GenerateRequest, generate, generate_many
from wan2_i2v.media import reader
from wan2_i2v.models import catalog, causal_vae, components
from wan2_i2v.pictures import prepare
from wan2_i2v.presets import PROMPT_PRESETS
from wan2_i2v.rows import ModelFiles

Clip = npt.NDArray[np.uint8]
LAG = 8
"""Frames between the two of which the flow is measured: a motion is too small from one frame to the next."""
BLOCK = 15
"""Pixels a side over which gradients are gathered."""
MOVING = 0.3
"""Share of a motion's strength from which it counts as shown."""
SAMPLES = {
    "static-portrait": "static",
    "figure-skating": "turn",
    "combat": "combat",
    "character-animation": "wave",
    "fireworks": "fireworks",
}
"""The knowledge base's sample prompts, and the motion that each promises."""
SHAPES = ((128, 192, 17), (192, 128, 33), (384, 384, 25), (256, 144, 121))
"""Other widths, heights and lengths: 2:3 to 16:9."""
SHEET_COLUMNS, SHEET_SIDE, SHEET_LABEL = 6, 128, 16


Fields = npt.NDArray[np.float32]
"""Optical flow of a clip: pairs of frames × height × width × (right, down), pixels per LAG frames."""


def sample_pictures(folder: Path, count: int) -> list[Path]:
    """Photographs among scikit-image's and scikit-learn's samples, written as PNG files."""
    import skimage
    from sklearn.datasets import load_sample_images

    data = Path(skimage.__file__).parent / "data"
    photos = [
        data / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
    ]
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return [folder / "china.png", *photos[:2], folder / "flower.png", *photos[2:]][:count]


def measure(clip: Clip) -> Fields:
    """Dense optical flow over LAG frames at a time."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.stack([dis.calc(grey[t], grey[t + LAG], None) for t in range(0, len(grey) - LAG, LAG)])


def told_by(picture: Clip) -> npt.NDArray[np.float32]:
    """How much the flow at each place says, height × width × 1: its weaker gradient (Shi and Tomasi 1994).

    In a plain sky there is none, and what the flow is there is chance.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return np.sqrt(np.maximum(cv2.cornerMinEigenVal(grey, BLOCK), 0))[..., None]


@cache
def known_flows(picture: bytes, shape: tuple[int, int, int], frames: int) -> dict[str, Fields]:
    """The flow of each motion's formula on a picture, measured as that of clips is, times `told_by`."""
    pixels = np.frombuffer(picture, np.uint8).reshape(shape)
    says = told_by(pixels)
    return {motion: measure(motions.clip(motion, pixels, range(frames))) * says for motion in HELD_OUT}


def amount(flow: Fields, known: Fields) -> float:
    """How much of a known flow is in `flow`: 1 where it is as strong, 0 where nothing of it is there."""
    return float((flow * known).sum() / max(float(np.square(known).sum()), 1e-9))


def shown(flow: Fields, known: dict[str, Fields]) -> str:
    """The motion whose own flow is most like the clip's (cosine over all places and times), or that nothing moves."""
    alike = {
        motion: amount(flow, told) * float(np.linalg.norm(told)) for motion, told in known.items() if motion != "static"
    }
    best = max(alike, key=lambda motion: alike[motion])
    return best if amount(flow, known[best]) > MOVING else "static"


def nearest(clip: Clip, picture: Clip) -> str:
    """The motion whose formula gives the frames most like the clip's, of all that `mini` knows."""
    times = range(0, len(clip), 4)
    seen = clip[::4].astype(np.float32)
    known = {motions.resolve(motion) for motion in wording.MOTIONS}
    errors = {
        motion: float(np.square(motions.clip(motion, picture, times).astype(np.float32) - seen).mean())
        for motion in known
    }
    return min(errors, key=lambda motion: errors[motion])


def sheet(clips: dict[str, Clip], out: Path) -> None:
    """One labelled row of frames per clip, evenly spaced from the first to the last."""
    row = SHEET_SIDE + SHEET_LABEL
    page = Image.new("RGB", (SHEET_COLUMNS * SHEET_SIDE, len(clips) * row), "white")
    for number, (name, clip) in enumerate(clips.items()):
        ImageDraw.Draw(page).text((4, number * row + 2), name, fill="black")
        for column, t in enumerate(np.linspace(0, len(clip) - 1, SHEET_COLUMNS).round().astype(int)):
            frame = Image.fromarray(clip[t]).resize((SHEET_SIDE, SHEET_SIDE))
            page.paste(frame, (column * SHEET_SIDE, number * row + SHEET_LABEL))
    page.save(out)


def frames_of(video: str | None) -> Clip:
    if video is None:
        raise SystemExit("a job left no video")
    return np.stack(list(reader.frames(Path(video))))


def reconstruction(pictures: list[Clip], frames: int) -> tuple[float, float]:
    """Mean PSNR of the VAE's round trip: first frames, and whole clips that pan."""
    source = components.Source(ModelFiles.in_folder(catalog.MINI), "cpu", "float32")
    clips = [motions.clip("pan_left", picture, range(frames)) for picture in pictures]
    encoded, first, whole = [], [], []
    with components.vae(source, "encoder") as vae, torch.inference_mode():
        for clip in clips:
            pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            encoded.append(causal_vae.normalise(vae, vae.encode(pixels).latent_dist.mode()))
    with components.vae(source, "decoder") as vae, torch.inference_mode():
        for clip, latents in zip(clips, encoded, strict=True):
            made = torch.cat(list(causal_vae.decode_stream(vae, latents)), dim=2)
            back = ((made[0].permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
            first.append(peak_signal_noise_ratio(clip[0], back[0], data_range=255))
            whole.append(peak_signal_noise_ratio(clip, back, data_range=255))
    return float(np.mean(first)), float(np.mean(whole))


def seconds_for_72(picture: Path, folder: Path) -> float:
    """Wall time of one clip of 72 frames at 256×256, in this warm process."""
    begin = time.perf_counter()
    generate(request(picture, "The camera zooms in.", 0, "rapid", folder, (256, 256), 72))
    return time.perf_counter() - begin


EXPERTS = {
    "as_made": ("transformer", "transformer_2"),
    "swapped": ("transformer_2", "transformer"),
    "high_only": ("transformer",),
    "low_only": ("transformer_2",),
}
"""Which of mini's experts work as the high-noise and the low-noise one, or alone at all levels."""


def boundary(picture: Path, pixels: Clip, folder: Path, size: int, frames: int) -> dict[str, float]:
    """When experts are swapped or one does all the work: SSIM of a zoom's last frame with the moved picture, and how much of
    the fireworks' light is there."""
    found = {}
    fireworks = motions.clip("fireworks", pixels, range(frames)).astype(np.float32) - pixels
    for name, experts in EXPERTS.items():
        checkpoint = folder / name
        shutil.copytree(catalog.MINI, checkpoint, ignore=shutil.ignore_patterns("transformer*"))
        for part, taken in zip(("transformer", "transformer_2"), experts, strict=False):
            shutil.copytree(catalog.MINI / taken, checkpoint / part)
        if len(experts) == 1:
            index = json.loads((checkpoint / "model_index.json").read_text())
            (checkpoint / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": None}))
        zoomed, lit = (
            frames_of(
                generate(
                    request(picture, prompt, 0, "rapid", folder / "clips", (size, size), frames).model_copy(
                        update={"model": str(checkpoint), "job_id": f"{name}-{number}"}
                    )
                ).video
            )
            for number, prompt in enumerate((HELD_OUT["zoom_in"][0], PROMPT_PRESETS["fireworks"].verbatim))
        )
        moved = motions.clip("zoom_in", pixels, [frames - 1])[0]
        alike = structural_similarity(zoomed[-1], moved, channel_axis=-1, data_range=255)
        found[f"ssim_{name}"] = round(float(alike), 3)
        found[f"light_{name}"] = round(amount(lit.astype(np.float32) - pixels, fireworks), 3)
    return found


def samples(files: list[Path], folder: Path, size: int, frames: int) -> dict[str, Clip]:
    """Clips of the knowledge base's sample prompts, by picture and sample."""
    cases = [(file, name) for file in files for name in SAMPLES]
    records = generate_many(
        [request(f, PROMPT_PRESETS[n].verbatim, 0, "rapid", folder, (size, size), frames) for f, n in cases]
    )
    return {f"{file.stem} {name}": frames_of(record.video) for (file, name), record in zip(cases, records, strict=True)}


def other_shapes(picture: Path, folder: Path) -> list[dict[str, object]]:
    """A pan and a zoom at each of SHAPES."""
    rows = []
    for width, height, frames in SHAPES:
        pixels = np.asarray(prepare(picture, width, height, "center", "#ffffff"))
        for motion in ("pan_left", "zoom_in"):
            asked = request(picture, HELD_OUT[motion][0], 0, "rapid", folder, (width, height), frames)
            found = judge(frames_of(generate(asked).video), motion, pixels)
            rows.append({"shape": f"{width}x{height}x{frames}", "motion": motion, **found})
    return rows


def request(
    picture: Path, prompt: str, seed: int, recipe: str, folder: Path, size: tuple[int, int], frames: int
) -> GenerateRequest:
    width, height = size
    return GenerateRequest(
        image=str(picture), prompt=prompt, width=width, height=height, num_frames=frames, seed=seed, recipe=recipe,
        output=str(folder), job_id=f"{picture.stem}-{crc32(prompt.encode())}-{recipe}-{seed}-{width}x{height}x{frames}",
        device="cpu",
    )  # fmt: skip


def main() -> None:
    parser = reporting.parser(__doc__)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=73)
    parser.add_argument("--recipes", nargs="+", default=["rapid", "lightx2v"])
    parser.add_argument("--sheet", type=Path, default=Path("mini-quality.png"))
    reporting.report(parser.parse_args(), run)


def run(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    files = sorted(args.images.iterdir())[: args.pictures] if args.images else sample_pictures(folder, args.pictures)
    prepared = {file: np.asarray(prepare(file, args.size, args.size, "center", "#ffffff")) for file in files}
    cases = [
        (file, motion, HELD_OUT[motion][(seed + number) % len(HELD_OUT[motion])], recipe, seed)
        for recipe in args.recipes
        for seed in range(args.seeds)
        for number, file in enumerate(files)
        for motion in HELD_OUT
    ]
    records = generate_many(
        [
            request(f, p, seed, recipe, folder / "clips", (args.size, args.size), args.frames)
            for f, _, p, recipe, seed in cases
        ]
    )
    rows = []
    shown_on_sheet: dict[str, Clip] = {}
    for (file, motion, prompt, recipe, _), record in zip(cases, records, strict=True):
        clip = frames_of(record.video)
        rows.append({"motion": motion, "recipe": recipe, "prompt": prompt, **judge(clip, motion, prepared[file])})
        if file == files[0]:
            shown_on_sheet.setdefault(f"{motion}: {prompt}", clip)
    table(rows)
    asked = samples(files, folder / "samples", args.size, args.frames)
    kept = {
        case: nearest(clip, prepared[files[number // len(SAMPLES)]])
        for number, (case, clip) in enumerate(asked.items())
    }
    for case, seen in kept.items():
        print(f"{case}: seen {seen}, promised {SAMPLES[case.split()[-1]]}")
    elsewhere = other_shapes(files[0], folder / "shapes")
    for row in elsewhere:
        print(row)
    sheet(shown_on_sheet | dict(list(asked.items())[: len(SAMPLES)]), args.sheet)
    first, whole = reconstruction(list(prepared.values()), args.frames)
    return {
        "vae_psnr_frame0": round(first, 2),
        "vae_psnr_clip": round(whole, 2),
        "frame0_psnr": round(float(np.mean([row["frame0"] for row in rows])), 2),
        "motion_accuracy": round(float(np.mean([row["right"] for row in rows])), 3),
        "static_flow": round(float(np.max([r["flow"] for r in rows if r["motion"] == "static"])), 3),
        "last_frame_ssim": round(float(np.mean([row["last"] for row in rows if row["last"] is not None])), 3),
        "seconds_72_frames": round(seconds_for_72(files[0], folder / "timed"), 1),
        "samples_kept": round(float(np.mean([seen == SAMPLES[case.split()[-1]] for case, seen in kept.items()])), 3),
        "other_shapes_right": round(float(np.mean([row["right"] for row in elsewhere])), 3),
        "other_shapes_worst_last_ssim": round(float(np.min([row["last"] for row in elsewhere])), 3),
        **boundary(files[0], prepared[files[0]], folder, args.size, args.frames),
        "clips": len(rows),
        "date": date.today().isoformat(),
    }


def judge(clip: Clip, motion: str, picture: Clip) -> dict[str, object]:
    """Motion shown against motion asked; first frame against the picture; last frame against the moved picture."""
    flow = measure(clip)
    seen = shown(flow * told_by(picture), known_flows(picture.tobytes(), picture.shape, len(clip)))
    moved = None if motion == "shake" else motions.clip(motion, picture, [len(clip) - 1])[0]
    last = None if moved is None else structural_similarity(clip[-1], moved, channel_axis=-1, data_range=255)
    return {
        "seen": seen,
        "right": seen == motion,
        "flow": float(np.median(np.linalg.norm(flow, axis=-1))) / LAG,
        "frame0": peak_signal_noise_ratio(picture, clip[0], data_range=255),
        "last": last,
    }


def table(rows: list[dict[str, object]]) -> None:
    print(f"{'asked':12}{'seen':12}{'recipe':10}{'flow px':>9}{'frame 0 dB':>12}{'last SSIM':>11}")
    for row in rows:
        last = "" if row["last"] is None else f"{row['last']:.3f}"
        print(f"{row['motion']:12}{row['seen']:12}{row['recipe']:10}{row['flow']:9.3f}{row['frame0']:12.2f}{last:>11}")


if __name__ == "__main__":
    main()
