"""How often does a good clip repeat a frame, and is stutter found, in short clips? Prints one JSON object.

The pictures of `photos.scenes` are set in motion as in `artefacts.py`, left as they are or with every second or third frame
repeated, written as H.264 and read back. Counted are clips by the number of their repeats, and those that fail.

    python benchmarks/duplicates.py [--out FILE]
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import damage, photos
from benchmarks.artefacts import CRFS, FPS, SIZE, through_h264

from wan2_i2v.eye import motion
from wan2_i2v.eye.series import Gatherer, Series

LENGTHS = (6, 9)
"""The shortest that is judged, and the longest of which one repeat is above the limit's share."""
EVERY = (2, 3)
"""Every second and every third frame repeats the one before: the strong and the medium damage of `artefacts.py`."""


def seen(clip: damage.Clip, crf: int) -> Series:
    gatherer = Gatherer()
    for frame in through_h264(clip, crf):
        gatherer.see(frame)
    return gatherer.series()


def clips(frames: int) -> Iterator[tuple[int, Series]]:
    """Every clip of this length with what was done to it: 0 nothing, else which frames repeat."""
    for number, photo in enumerate(photos.scenes().values()):
        for index, way in enumerate(damage.WAYS):
            good = damage.good_clip(photo, way, size=SIZE, frames=frames, seed=number)
            for every in (0, *EVERY):
                clip = damage._repeat(good, every, np.random.default_rng(0)) if every else good
                yield every, seen(clip, CRFS[(number + index + every) % 3])


def measure(frames: int) -> dict[str, Any]:
    repeats: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    failed: collections.Counter[int] = collections.Counter()
    for every, series in clips(frames):
        check = motion.duplicates(series, FPS, "motion")
        repeats[every][motion.repeats(series)] += 1
        failed[every] += not check.passed
    return {
        ("good" if not every else f"every {every}"): {
            "clips": counted.total(),
            "failed": failed[every],
            "by_repeats": dict(sorted(counted.items())),
        }
        for every, counted in repeats.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    result = {"date": datetime.date.today().isoformat()} | {str(frames): measure(frames) for frames in LENGTHS}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
