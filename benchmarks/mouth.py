"""Does the mouth check find moving mouths on real faces, and leave still ones alone?

Photos get synthetic mouths (talking, slow, brief, asymmetric; 4 to 12 % of the face's height) and nuisances (pan, zoom,
roll, yaw, flicker, noise, blur, H.264). Prints a table and, as the last line of stdout, one JSON object. "Unsure" counts
neither as found nor as a false alarm. The limits were chosen on the faces of `--tuning`; `--held-out` has other people.

    python benchmarks/mouth.py --tuning FOLDER | --held-out FOLDER [--scenes 24] [--processes 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import mouths, photos
from benchmarks.mouths import Scene

from wan2_i2v.eye import mouth as judging
from wan2_i2v.eye.crowd import UNSEEN, Crowd, Seen
from wan2_i2v.eye.faces import find_faces
from wan2_i2v.media import reader, writer
from wan2_i2v.media.formats import ClipFormat

HEIGHTS = (52, 64, 96, 160, 260, 400)
FRAMES, FPS = 33, 16.0
CRFS = (20, 28, 35)
NUISANCES = ("pan", "zoom", "roll", "yaw", "flicker", "noise", "blur")
OPENINGS = (("talk", 0.0), ("talk", 0.4), ("slow", 0.0), ("brief", 0.0))
AMPLITUDES = (0.04, 0.06, 0.08, 0.12)


def scenes(number: int, count: int) -> list[tuple[str, Scene]]:
    """Half of them closed and half moving mouths, each with its own mix of nuisances."""
    rng = np.random.default_rng(number)
    made = []
    for index in range(count):
        chosen = [NUISANCES[(index + number) % 7], *rng.choice(NUISANCES, int(rng.integers(0, 3)))]
        strengths = {name: float(rng.choice([-1, 1]) if name in ("pan", "roll", "yaw") else 1) for name in chosen}
        if index < count // 2:
            made.append(("closed", Scene(**strengths)))
        else:
            which = index - count // 2 + number * (count // 2)
            motion, skew = OPENINGS[which % 4]
            amplitude = AMPLITUDES[(which // 4) % 4]
            label = f"{'asymmetric' if skew else motion} {amplitude:.0%}"
            made.append((label, Scene(motion=motion, amplitude=amplitude, skew=skew, **strengths)))
    return made


def one_photo(task: tuple[int, str, photos.Picture, int]) -> list[dict[str, Any]]:
    number, name, photo, count = task
    cv2.setNumThreads(1)
    middle = (photo.shape[1] / 2, photo.shape[0] / 2)
    face = min(find_faces(photo), key=lambda one: _apart(one.box, middle) if name.startswith("sample") else -one.height)
    rows = []
    for index, (label, scene) in enumerate(scenes(number, count)):
        height = HEIGHTS[(index + index // 6 + number) % 6]
        crowd = Crowd(FPS)
        clip = list(mouths.clip(photo, face, scene, height=height, frames=FRAMES, fps=FPS, seed=index))
        for at, frame in enumerate(_through_h264(clip, CRFS[index % 3])):
            crowd.see(at, frame)
        side = clip[0].shape[0]
        seen = min(crowd.seen(), key=lambda one: _apart(one.box, (side / 2, side / 2)), default=None)
        row: dict[str, Any] = {"photo": name, "label": label, "height": height, "crf": CRFS[index % 3]}
        row["nuisances"] = [n for n in NUISANCES if getattr(scene, n)]
        rows.append(row | _judged(seen))
    return rows


def _judged(seen: Seen | None) -> dict[str, Any]:
    if seen is None:
        return {"verdict": "no face", "talk": 0.0, "peak": 0.0, "change": 0.0}
    mouth = seen.mouth
    return {"verdict": mouth.verdict, "talk": mouth.talk, "peak": mouth.talk_peak, "change": mouth.change}


def _apart(box: tuple[float, float, float, float], point: tuple[float, float]) -> float:
    """Distance of a box's middle from a point."""
    return float(np.hypot((box[0] + box[2]) / 2 - point[0], (box[1] + box[3]) / 2 - point[1]))


def _through_h264(clip: list[photos.Picture], crf: int) -> list[photos.Picture]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        writer.write_clip(path, clip, ClipFormat("mp4", clip[0].shape[1], clip[0].shape[0], FPS, crf))
        return list(reader.frames(path))


def summary(rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    closed = [row for row in rows if row["label"] == "closed"]
    large = [row for row in rows if row["label"].split()[-1] in ("6%", "8%", "12%")]
    small = [row for row in rows if row["label"].endswith(" 4%")]

    def share(part: list[dict[str, Any]], verdicts: tuple[str, ...]) -> float:
        return round(sum(row["verdict"] in verdicts for row in part) / max(1, len(part)), 4)

    moving = ("talking", "moves")
    labels = sorted({row["label"] for row in rows})
    return {
        "date": datetime.date.today().isoformat(),
        "photos": sorted({row["photo"] for row in rows}),
        "clips": len(rows),
        "closed": len(closed),
        "moving_from_6_percent": len(large),
        "moving_4_percent": len(small),
        "found_from_6_percent": share(large, moving),
        "found_4_percent": share(small, moving),
        "false_alarms": share(closed, moving),
        "unsure_closed": share(closed, ("unsure",)),
        "unsure_moving": share(large + small, ("unsure",)),
        "unchecked": share(rows, ("no face", *UNSEEN)),
        "by_label": {label: Counter(row["verdict"] for row in rows if row["label"] == label) for label in labels},
        "limits": {
            "talking": judging.TALKING,
            "moved": judging.MOVED,
            "unsure_talk": judging.UNSURE_TALK,
            "unsure_moved": judging.UNSURE_MOVED,
            "smallest_px": judging.SMALLEST,
        },
        "by_height": {
            str(height): {
                "false_alarms": share([row for row in closed if row["height"] == height], moving),
                "found_from_6_percent": share([row for row in large if row["height"] == height], moving),
            }
            for height in HEIGHTS
        },
        "closed_highest": {key: round(max(row[key] for row in closed), 4) for key in ("talk", "peak", "change")},
        "talking_lowest_talk": round(min(r["talk"] for r in large if r["label"].startswith(("talk", "asym"))), 4),
        "moving_lowest_change": round(min(row["change"] for row in large), 4),
        "wrong": [r for r in closed if r["verdict"] in moving] + [r for r in large if r["verdict"] not in moving],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--tuning", type=Path, help="the unpacked sdist of face_recognition 1.3.0")
    which.add_argument("--held-out", type=Path, help="the unpacked npm package @vladmandic/face-api 1.7.15")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    faces = photos.tuning(options.tuning) if options.tuning else photos.held_out(options.held_out)
    tasks = [(number, name, photo, options.scenes) for number, (name, photo) in enumerate(faces.items())]
    with multiprocessing.Pool(options.processes) as pool:
        rows = [row for part in pool.imap(one_photo, tasks) for row in part]
    result = {"set": "tuning" if options.tuning else "held out"} | summary(rows, time.perf_counter() - begin)
    for label, verdicts in result["by_label"].items():
        print(f"{label:18}" + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
