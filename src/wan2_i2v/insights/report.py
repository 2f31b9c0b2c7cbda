"""The knowledge base as it stands now: the entries, and what the runs of this machine (and imported ones) say.

Comes in: runs. Goes out: a folder with `knowledge-base.md` and plots beside it. Imported by doors.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from wan2_i2v import knowledge
from wan2_i2v.errors import OutputError, writing
from wan2_i2v.insights import figures
from wan2_i2v.insights.figures import LEAST, Rate, Size
from wan2_i2v.insights.plots import Bar, bars
from wan2_i2v.insights.run import Run
from wan2_i2v.workspace import replacing

MOST_BARS = 24
TITLE = "# What is known of Wan2.2 image to video"


def write(runs: Sequence[Run], folder: Path) -> Path:
    """Write the report into `folder`; the path of its Markdown file. Only an earlier report is replaced.

    Raises OutputError.
    """
    page = folder / "knowledge-base.md"
    with writing(folder, "Name another FOLDER."):
        foreign = page.exists() and not page.read_bytes().startswith(TITLE.encode())
    if foreign:
        raise OutputError(f"{page} exists and is no report of this program; move it. Name another FOLDER.")
    pictures = _plots(runs)
    with writing(folder, "Name another FOLDER."):
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            with replacing(folder / name) as temporary:
                picture.save(temporary, format="PNG", optimize=True)
        with replacing(page) as temporary:
            temporary.write_text(text(runs, tuple(pictures)), encoding="utf-8")
    return page


def text(runs: Sequence[Run], plots: Sequence[str] = ()) -> str:
    """The report as Markdown; `plots` are the names of the pictures that lie beside it."""
    sizes, rates = figures.sizes(runs), figures.rates(runs)
    parts = [_head(runs), _sizes(sizes), _rates(rates), _likings(runs)]
    parts += [f"![{name}]({name})\n" for name in plots]
    return "\n".join([*parts, _entries()])


def _head(runs: Sequence[Run]) -> str:
    done = sum(run.status == "done" for run in runs)
    today = datetime.date.today().isoformat()
    models = ", ".join(sorted({run.model for run in runs})) or "none"
    return (
        f"{TITLE}\n\nWritten on {today} from {len(runs)} runs ({done} made their video; models: {models}). "
        f"Shares are given with their count and 95 % Wilson interval; nothing is claimed from fewer than {LEAST} runs.\n"
    )


def _sizes(sizes: Sequence[Size]) -> str:
    title = "## Sizes: measured beside computed\n"
    if not sizes:
        return title + f"\nNo size was run {LEAST} times on one device yet.\n"
    rows = [
        f"| {one.device} | {one.model} | {one.width}×{one.height} × {one.model_frames} | {one.residency} | {one.verdict} | "
        f"{one.fitted.told()} | {one.measured} | {one.predicted_gib:.1f} of {one.memory_gib:.1f} GiB | "
        f"{'' if one.seconds is None else f'{one.seconds:.1f} s'} |"
        for one in sizes
    ]
    head = "| device | model | size × frames | weights | measured | memory sufficed | measured peak | computed peak | whole run |\n|---|---|---|---|---|---|---|---|---|\n"
    return title + "\n" + head + "\n".join(rows) + "\n"


def _rates(rates: Sequence[Rate]) -> str:
    title = "## How often clips pass\n"
    if not rates:
        return title + f"\nNo group has {LEAST} runs yet.\n"
    rows = [f"| {one.by} | {one.group} | {one.check} | {one.share.told()} |" for one in rates]
    return title + "\n| by | | check | passed |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _likings(runs: Sequence[Run]) -> str:
    found = figures.likings(runs)
    if not found:
        return f"## Ratings\n\nNo group has {LEAST} rated runs yet (`wan2-i2v rate JOB 1…5`).\n"
    rows = [
        f"| {one.by} | {one.group} | {one.mean:.1f} of 5 ({one.low:.1f}–{one.high:.1f}) | {one.count} |"
        for one in found
    ]
    return "## Ratings\n\n| by | | mean | ratings |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _entries() -> str:
    lines = ["## The entries\n"]
    topic = ""
    topics = list(dict.fromkeys(entry.topic for entry in knowledge.entries()))
    for entry in sorted(knowledge.entries(), key=lambda one: topics.index(one.topic)):
        if entry.topic != topic:
            topic = entry.topic
            lines.append(f"\n### {topic.capitalize()}\n")
        lines.append(f"- {entry.says} *({entry.source.name}, {entry.source.date}; holds: {entry.holds})*")
        if entry.correction:
            by = f" *({entry.by.name}, {entry.by.date})*" if entry.by is not None else ""
            lines.append(f"  - {entry.correction}{by}")
    return "\n".join(lines) + "\n"


def _plots(runs: Sequence[Run]) -> dict[str, Image.Image]:
    """The plots that there are figures for."""
    found: dict[str, Image.Image] = {}
    for by in figures.GROUPS:
        rows = [
            Bar(
                f"{one.group}: {one.check}",
                100 * one.share.rate,
                100 * one.share.low,
                100 * one.share.high,
                f"n {one.share.count}",
            )
            for one in figures.rates(runs)
            if one.by == by and (one.check == "all checks" or one.share.passed < one.share.count)
        ]
        if rows:
            found[f"checks-by-{by}.png"] = bars(
                f"clips that pass, by {by} (95 % interval)", rows[:MOST_BARS], 100, " %"
            )
    sizes = [one for one in figures.sizes(runs) if one.seconds is not None]
    if sizes:
        highest = max(one.seconds or 0 for one in sizes)
        rows = [
            Bar(
                f"{one.device}, {one.width}×{one.height}×{one.model_frames}",
                one.seconds or 0,
                None,
                None,
                f"n {one.fitted.count}",
            )
            for one in sizes[:MOST_BARS]
        ]
        found["seconds-by-size.png"] = bars("seconds of a whole run (median)", rows, highest or 1.0, " s")
    return found
