"""Does the mouth check find moving mouths on real faces, and leave still ones alone?

Photos get synthetic mouths (talking, slow, brief, asymmetric; 4 to 12 % of the face's height) and nuisances (pan, zoom,
roll, yaw, flicker, noise, blur, H.264). Prints a table and, as the last line of stdout, one JSON object. "Unsure" counts
neither as found nor as a false alarm.

    python benchmarks/mouth.py [--faces FOLDER] [--processes 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmarks import mouths, photos
from benchmarks.mouths import Scene

from wan2_i2v.eye.crowd import Crowd
from wan2_i2v.eye.faces import find_faces
from wan2_i2v.media import reader, writer
from wan2_i2v.media.formats import ClipFormat

HEIGHTS = (52, 64, 96, 160, 260, 400)
FRAMES, FPS = 33, 16.0
CRFS = (20, 28, 35)
NUISANCES = ("pan", "zoom", "roll", "yaw", "flicker", "noise", "blur")
OPENINGS = (("talk", 0.0), ("talk", 0.4), ("slow", 0.0), ("brief", 0.0))
AMPLITUDES = (0.04, 0.06, 0.08, 0.12)


def scenes(number: int) -> list[tuple[str, Scene]]:
    """Sixteen closed and sixteen moving mouths, each with its own mix of nuisances."""
    rng = np.random.default_rng(number)
    made = []
    for index in range(32):
        chosen = [NUISANCES[(index + number) % 7], *rng.choice(NUISANCES, int(rng.integers(0, 3)))]
        strengths = {name: float(rng.choice([-1, 1]) if name in ("pan", "roll", "yaw") else 1) for name in chosen}
        if index < 16:
            made.append(("closed", Scene(**strengths)))
        else:
            motion, skew = OPENINGS[index % 4]
            amplitude = AMPLITUDES[(index // 4) % 4]
            label = f"{'asymmetric' if skew else motion} {amplitude:.0%}"
            made.append((label, Scene(motion=motion, amplitude=amplitude, skew=skew, **strengths)))
    return made


def one_photo(task: tuple[int, str, photos.Picture]) -> list[dict[str, Any]]:
    number, name, photo = task
    cv2.setNumThreads(1)
    face = find_faces(photo)[0]
    rows = []
    for index, (label, scene) in enumerate(scenes(number)):
        height = HEIGHTS[(index + index // 6 + number) % 6]
        crowd = Crowd(FPS)
        clip = list(mouths.clip(photo, face, scene, height=height, frames=FRAMES, fps=FPS, seed=index))
        for at, frame in enumerate(_through_h264(clip, CRFS[index % 3])):
            crowd.see(at, frame)
        seen = crowd.seen()
        row: dict[str, Any] = {"photo": name, "label": label, "height": height, "crf": CRFS[index % 3]}
        row["nuisances"] = [n for n in NUISANCES if getattr(scene, n)]
        if seen:
            mouth = seen[0].mouth
            row |= {"verdict": mouth.verdict, "talk": mouth.talk, "peak": mouth.talk_peak, "change": mouth.change}
        else:
            row |= {"verdict": "no face", "talk": 0.0, "peak": 0.0, "change": 0.0}
        rows.append(row)
    return rows


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
        "clips": len(rows),
        "closed": len(closed),
        "found_from_6_percent": share(large, moving),
        "found_4_percent": share(small, moving),
        "false_alarms": share(closed, moving),
        "unsure_closed": share(closed, ("unsure",)),
        "unsure_moving": share(large + small, ("unsure",)),
        "unchecked": share(rows, ("too small", "no face")),
        "by_label": {label: Counter(row["verdict"] for row in rows if row["label"] == label) for label in labels},
        "closed_highest": {key: round(max(row[key] for row in closed), 4) for key in ("talk", "peak", "change")},
        "talking_lowest_talk": round(min(r["talk"] for r in large if r["label"].startswith(("talk", "asym"))), 4),
        "moving_lowest_change": round(min(row["change"] for row in large), 4),
        "wrong": [r for r in closed if r["verdict"] in moving] + [r for r in large if r["verdict"] not in moving],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    tasks = [(number, name, photo) for number, (name, photo) in enumerate(photos.portraits(options.faces).items())]
    with multiprocessing.Pool(options.processes) as pool:
        rows = [row for part in pool.imap(one_photo, tasks) for row in part]
    result = summary(rows, time.perf_counter() - begin)
    for label, verdicts in result["by_label"].items():
        print(f"{label:18}" + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
