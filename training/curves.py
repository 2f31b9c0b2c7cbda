"""Loss curves of a training as one picture. Comes in: the logs in the work folder; goes out: a PNG."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

PANELS = {
    "vae-images": ("psnr", "VAE decoder on pictures, dB"),
    "vae-clips": ("psnr", "VAE decoder on short clips, dB"),
    "vae-long": ("psnr", "VAE decoder on long clips, dB"),
    "vae-first": ("psnr_first", "VAE decoder, first frames, dB"),
    "text": ("loss", "text encoder, cross entropy"),
    "moves": ("loss", "how far places move, squared error"),
    "lights-high": ("loss", "light of the high-noise expert, squared error"),
    "lights-low": ("loss", "light of the low-noise expert, squared error"),
}
"""Log's name → its figure and the panel's title."""


def draw(work: Path, out: Path) -> None:
    """One panel per log that exists, smoothed over a fiftieth of its length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    logs = [name for name in PANELS if (work / f"{name}.jsonl").exists()]
    figure, axes = pyplot.subplots(1, len(logs), figsize=(4 * len(logs), 3), squeeze=False)
    for axis, name in zip(axes[0], logs, strict=True):
        figure_name, title = PANELS[name]
        rows = [json.loads(line) for line in (work / f"{name}.jsonl").read_text().splitlines()]
        values = np.array([row[figure_name] for row in rows])
        width = max(1, len(values) // 50)
        axis.plot(
            [row["step"] for row in rows][width - 1 :], np.convolve(values, np.full(width, 1 / width), mode="valid")
        )
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step")
        if figure_name == "loss":
            axis.set_yscale("log")
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    pyplot.close(figure)
