"""What does NAG's negative prompt do to the motion, at CFG 1? Measured on `mini`.

Each of eight directed motions is asked for in two wordings and named in the negative prompt, on several photos: once without
NAG, so that nothing evaluates the negative prompt, once with it, and once with it and a negative prompt that names no motion.
The same for prompts that leave the direction open, which mini takes to the right, with "pan right" as the negative prompt.
Measured is the strength of the asked motion: its share in the clip's optical flow, 1 for that of the motion's own formula. The
effect is what the negative prompt takes away, as a share of the strength without it; paired per case, with Student's 95 % interval
of the mean and Cohen's d of the paired differences. Prints a table and, as the last line of stdout, one JSON object.

    python benchmarks/nag_effect.py [--pictures 8] [--size 128] [--frames 17] [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import mini_quality, photos, reporting

from training import motions
from wan2_i2v import GenerateRequest, generate_many
from wan2_i2v.pictures import prepare

WORDINGS = {
    "pan_left": ("The camera pans to the left.", "the view slides left", "pan left"),
    "pan_right": ("The camera pans to the right.", "the view slides right", "pan right"),
    "pan_up": ("The camera pans up.", "the view slides up", "pan up"),
    "pan_down": ("The camera pans down.", "the view slides down", "pan down"),
    "zoom_in": ("The camera zooms in.", "a slow push in", "zoom in"),
    "zoom_out": ("The camera zooms out.", "a slow pull back", "zoom out"),
    "rotate_cw": ("The picture rotates clockwise.", "a clockwise turn", "rotate clockwise"),
    "rotate_ccw": ("The picture rotates counterclockwise.", "a counterclockwise turn", "rotate counterclockwise"),
    "pan_any": (
        "The camera pans.",
        "panning shot",
        "pan across the scene",
        "camera movement",
        "tracking shot",
        "pan right",
    ),
}
"""Prompts and, last, the negative prompt of each motion."""
OPEN = "pan_any"
UNRELATED = "blurry, low quality, watermark"
ARMS = ("without", "named", "unrelated")
SEEN = mini_quality.MOVING
"""Share of the motion's full strength below which the clip without NAG does not show it, and nothing can be taken away."""


def summary_of(effects: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Mean of paired effects, its 95 % interval, Cohen's d."""
    low, high = stats.t.interval(0.95, len(effects) - 1, loc=effects.mean(), scale=stats.sem(effects))
    return {
        "mean": round(float(effects.mean()), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "cohens_d": round(float(effects.mean() / effects.std(ddof=1)), 2),
        "pairs": len(effects),
    }


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    pictures = {}
    for name, picture in list(photos.scenes().items())[: args.pictures]:
        pictures[name] = folder / f"{name}.png"
        Image.fromarray(picture).save(pictures[name])
    cases = [
        (name, motion, prompt, arm)
        for name in pictures
        for motion, (*prompts, _) in WORDINGS.items()
        for prompt in prompts
        for arm in ARMS
    ]
    records = generate_many(
        [
            GenerateRequest(
                image=str(pictures[name]), prompt=prompt, negative_prompt=UNRELATED if arm == "unrelated" else WORDINGS[motion][-1],
                nag=arm != "without", allow_speech=True, guidance_scale_high=1, guidance_scale_low=1, width=args.size, height=args.size,
                num_frames=args.frames, seed=0, output=str(folder / "clips"), job_id=f"clip-{number}", device="cpu", model="mini",
            )
            for number, (name, motion, prompt, arm) in enumerate(cases)
        ]
    )  # fmt: skip
    found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for (name, motion, prompt, arm), record in zip(cases, records, strict=True):
        flow = mini_quality.measure(mini_quality.frames_of(record.video))
        picture = np.asarray(prepare(pictures[name], args.size, args.size, "center", "#ffffff"))
        known = mini_quality.known_flows(picture.tobytes(), picture.shape, args.frames)
        found[name, motion, prompt][arm] = mini_quality.amount(
            flow * mini_quality.told_by(picture), known[motions.resolve(motion)]
        )
    moving = {case: told for case, told in found.items() if told["without"] > SEEN}
    for (name, _, prompt), told in found.items():
        print(f"{name:20}{prompt:42}" + "".join(f"{told[arm]:9.3f}" for arm in ARMS))
    taken, taken_open = (
        {
            arm: np.array(
                [1 - t[arm] / t["without"] for (_, motion, _), t in moving.items() if (motion == OPEN) == open_]
            )
            for arm in ("named", "unrelated")
        }
        for open_ in (False, True)
    )
    by_motion = {
        motion: round(
            float(np.mean([1 - t["named"] / t["without"] for case, t in moving.items() if case[1] == motion])), 3
        )
        for motion in WORDINGS
        if any(case[1] == motion for case in moving)
    }
    return {
        "share_taken": summary_of(taken["named"]),
        "strength_without": round(float(np.mean([told["without"] for told in moving.values()])), 3),
        "share_taken_by_unrelated": summary_of(taken["unrelated"]),
        "share_taken_beyond_unrelated": summary_of(taken["named"] - taken["unrelated"]),
        "share_taken_where_open": summary_of(taken_open["named"]),
        "share_taken_where_open_by_unrelated": summary_of(taken_open["unrelated"]),
        "share_taken_where_open_beyond_unrelated": summary_of(taken_open["named"] - taken_open["unrelated"]),
        "share_taken_by_motion": by_motion,
        "not_moving_without": len(found) - len(moving),
        "size": args.size,
        "frames": args.frames,
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = reporting.parser(__doc__)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=17)
    reporting.report(parser.parse_args(), run)


if __name__ == "__main__":
    main()
