"""Do `--best-of` and `--retries` raise the share of clips that pass all checks? Measured on `mini`.

Eight photos, each with the five prompt presets: 40 jobs. Each is made with `--best-of N`, so its first attempt is the clip that
the job without it makes, and once more with `--retries N - 1`. Compared are, job by job, the first attempt, the best, and the
last of the retries: shares with Wilson's intervals, and McNemar's exact test of the difference. The first attempt has one seed
of many: what a job gains from its best attempt over a single one of any seed is its `gain`, the mean over the jobs with a 95 %
interval (bootstrap over jobs). Prints a table and, as the last line of stdout, one JSON object.

    python benchmarks/best_of.py [--best-of 4] [--pictures 8] [--size 128] [--frames 25] [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import binomtest, bootstrap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import photos, reporting

from wan2_i2v import GenerateRequest, generate_many
from wan2_i2v.presets import PROMPT_PRESETS
from wan2_i2v.record import Record


def requests(args: argparse.Namespace, folder: Path, way: str, more: dict[str, int]) -> list[GenerateRequest]:
    found = []
    for name, picture in list(photos.scenes().items())[: args.pictures]:
        path = folder / f"{name}.png"
        Image.fromarray(picture).save(path)
        found += [
            GenerateRequest(
                image=str(path), prompt=preset.verbatim, width=args.size, height=args.size, num_frames=args.frames, seed=1,
                output=str(folder / way), job_id=f"{way}-{name}-{preset_name}", device="cpu", model="mini", **more,
            )
            for preset_name, preset in PROMPT_PRESETS.items()
        ]  # fmt: skip
    return found


def interval(passed: int, jobs: int) -> list[float]:
    """Wilson's 95 % interval of a share."""
    found = binomtest(passed, jobs).proportion_ci(method="wilson")
    return [round(float(found.low), 3), round(float(found.high), 3)]


def share(passed: list[bool]) -> dict[str, Any]:
    return {
        "passed": sum(passed),
        "share": round(sum(passed) / len(passed), 3),
        "interval": interval(sum(passed), len(passed)),
    }


def compared(before: list[bool], after: list[bool]) -> dict[str, Any]:
    """Jobs that only pass after, and only before; the exact two-sided probability of that if it made no difference."""
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return {"gained": gained, "lost": lost, "p": round(p, 5)}


def gain(jobs: list[tuple[bool, ...]]) -> dict[str, Any]:
    """How much more often the best of a job's attempts passes than a single one of them."""
    each = np.array([any(attempts) - np.mean(attempts) for attempts in jobs])
    found = bootstrap((each,), np.mean, method="percentile", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    seeds_matter = sum(0 < np.mean(attempts) < 1 for attempts in jobs)
    return {
        "mean": round(float(each.mean()), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "jobs_whose_seeds_differ": int(seeds_matter),
    }


def passed(record: Record) -> bool:
    return record.verification is not None and record.verification.passed


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    best = list(generate_many(requests(args, folder, "best", {"best_of": args.best_of})))
    again = list(generate_many(requests(args, folder, "again", {"retries": args.best_of - 1})))
    first = [record.attempts[0].passed for record in best]
    failures = Counter(name for record in best for attempt in record.attempts for name in attempt.failures)
    for record, other, alone in zip(best, again, first, strict=True):
        tries = "".join("+" if attempt.passed else "-" for attempt in record.attempts)
        told = "; ".join(record.attempts[0].failures)
        print(f"{record.job_id:45}{alone!s:7}{passed(record)!s:7}{tries:7}{passed(other)!s:7}{told}")
    return {
        "jobs": len(best),
        "best_of": args.best_of,
        "size": args.size,
        "frames": args.frames,
        "attempts": share([attempt.passed for record in best for attempt in record.attempts]),
        "first": share(first),
        "gain": gain([tuple(attempt.passed for attempt in record.attempts) for record in best]),
        "best": share([passed(record) for record in best]),
        "retried": share([passed(record) for record in again]),
        "best_against_first": compared(first, [passed(record) for record in best]),
        "retried_against_first": compared(first, [passed(record) for record in again]),
        "failures_of_all_attempts": dict(failures.most_common()),
        "clips_made": sum(len(record.attempts) for record in [*best, *again]),
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = reporting.parser(__doc__)
    parser.add_argument("--best-of", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=25)
    reporting.report(parser.parse_args(), run)


if __name__ == "__main__":
    main()
