"""Do the checks find what is wrong with a clip, name it right, and leave good clips alone?

Ten pictures are set in motion, spoilt in every way of `damage.KINDS` at three strengths, written as H.264, read back and
examined. Prints a table and, as the last line of stdout, one JSON object. "Found" means that the check of that kind
failed; "alone" that no other did, but for another name of the same thing.

The limits were chosen on the ten pictures of `photos.scenes`, which are used unless `--pictures` names others. The held-out
result is of ten photos that no limit was chosen on: sample1, sample4, sample6 (npm package @vladmandic/face-api 1.7.15),
nature/Dune, LadyBird, Storm, YellowFlower (Debian package mate-backgrounds), EveningGlow, Path, ColorfulCups (Debian package
plasma-workspace-wallpapers).

    python benchmarks/artefacts.py [--pictures FILE …] [--processes 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import damage, photos

from wan2_i2v.eye import causes, limits
from wan2_i2v.eye.artefacts import artefact_checks
from wan2_i2v.eye.first import first_frame_check
from wan2_i2v.eye.motion import motion_checks
from wan2_i2v.eye.series import Gatherer
from wan2_i2v.media import reader, writer
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.record import Check

ALIKE = {
    "fade_to_white": {"brightness_drift"},
    "fade_to_black": {"brightness_drift"},
    "brightness_drift": {"fade_to_white", "fade_to_black"},
}
"""Two names of one thing: a picture that darkens by 70 % has gone most of the way to black."""

SIZE, FRAMES, FPS = (384, 216), 33, 16.0
CRFS = (18, 23, 28)


def through_h264(clip: damage.Clip, crf: int) -> damage.Clip:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        writer.write_clip(path, clip, ClipFormat("mp4", SIZE[0], SIZE[1], FPS, crf))
        return list(reader.frames(path))


def judge(clip: damage.Clip, source: damage.Picture, expected: str) -> tuple[Check, ...]:
    """All checks but the mouth's, which has its own benchmark."""
    gatherer = Gatherer()
    for frame in clip:
        gatherer.see(frame)
    series = gatherer.series()
    checks = [first_frame_check(clip[0], source), *motion_checks(series, FPS, expected), *artefact_checks(series, FPS)]
    return causes.explained(checks)


def one_picture(task: tuple[int, str, damage.Picture]) -> list[dict[str, Any]]:
    """All clips of one picture: rows of what was done and what was found."""
    number, name, photo = task
    cv2.setNumThreads(1)
    rows = []
    good = {
        w: damage.good_clip(photo, w, size=SIZE, frames=FRAMES, seed=number)
        for w in (*damage.WAYS, "still", "breathing")
    }
    for index, (way, clip) in enumerate(good.items()):
        expected = "static" if way in ("still", "breathing") else "motion"
        checks = judge(through_h264(clip, CRFS[index % 3]), clip[0], expected)
        rows.append(_row(name, way, None, None, None, checks))
    for index, kind in enumerate(damage.KINDS):
        for strength in range(3):
            way = kind.ways[strength] if kind.ways else damage.WAYS[(number + index) % len(damage.WAYS)]
            rng = np.random.default_rng(number * 1000 + index * 10 + strength)
            spoilt = kind.damage(good[way], kind.strengths[strength], rng)
            clip = through_h264(spoilt, CRFS[(number + index + strength) % 3])
            rows.append(
                _row(name, way, kind, strength, kind.check, judge(clip, good[way][0], kind.expected or "motion"))
            )
    return rows


def _row(
    name: str, way: str, kind: Any, strength: int | None, check: str | None, checks: tuple[Check, ...]
) -> dict[str, Any]:
    return {
        "picture": name,
        "way": way,
        "kind": kind.name if kind else None,
        "strength": damage.STRENGTHS[strength] if strength is not None else None,
        "check": check,
        "failed": [c.name for c in checks if not c.passed],
        "values": {c.name: c.value for c in checks if c.value is not None},
    }


def _alone(row: dict[str, Any]) -> bool:
    """Whether the right check failed and no other of another meaning."""
    others = set(row["failed"]) - {row["check"]} - ALIKE.get(row["check"], set())
    return row["check"] in row["failed"] and not others


def summary(rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    good = [row for row in rows if row["kind"] is None]
    bad = [row for row in rows if row["strength"] in ("medium", "strong")]
    kinds: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row["kind"]:
            same = [other for other in rows if (other["kind"], other["strength"]) == (row["kind"], row["strength"])]
            kinds[row["kind"]][row["strength"]] = f"{sum(r['check'] in r['failed'] for r in same)}/{len(same)}"
    named = {k.name for k in damage.KINDS}
    checks = {kind.check: getattr(limits, kind.check.upper()) for kind in damage.KINDS}
    margins = {}
    for check, limit in checks.items():
        worst = [r["values"][check] for r in good if check in r["values"]]
        mildest = [r["values"][check] for r in bad if r["check"] == check and check in r["values"]]
        margins[check] = {
            "limit": limit.fails,
            "good_highest": max(worst, default=0.0),
            "bad_lowest": min(mildest, default=0.0),
            "bad_5_percent": float(np.percentile(mildest, 5)) if mildest else 0.0,
        }
    return {
        "date": datetime.date.today().isoformat(),
        "pictures": sorted({row["picture"] for row in rows}),
        "kinds": len(named),
        "clips_damaged": len(rows) - len(good),
        "clips_good": len(good),
        "found_medium_strong": round(sum(r["check"] in r["failed"] for r in bad) / len(bad), 4),
        "found_alone_medium_strong": round(sum(_alone(r) for r in bad) / len(bad), 4),
        "any_failure_medium_strong": round(sum(bool(r["failed"]) for r in bad) / len(bad), 4),
        "false_alarms": round(sum(bool(r["failed"]) for r in good) / len(good), 4),
        "false_alarm_rows": [r for r in good if r["failed"]],
        "missed": [
            f"{r['kind']} {r['strength']} {r['picture']} {r['way']}" for r in bad if r["check"] not in r["failed"]
        ],
        "by_kind": kinds,
        "margins": margins,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, nargs="+", help="other pictures than those that the limits are from")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    scenes = {path.stem: photos.load(path) for path in options.pictures} if options.pictures else photos.scenes()
    tasks = [(number, name, photo) for number, (name, photo) in enumerate(scenes.items())]
    with multiprocessing.Pool(options.processes) as pool:
        rows = [row for part in pool.imap(one_picture, tasks) for row in part]
    result = {"set": "held out" if options.pictures else "tuning"} | summary(rows, time.perf_counter() - begin)
    for kind, found in result["by_kind"].items():
        print(f"{kind:26}" + "".join(f"{strength:>8} {share:6}" for strength, share in found.items()))
    line = json.dumps(result)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(line)


if __name__ == "__main__":
    main()
