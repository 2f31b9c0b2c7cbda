"""Progress and Ctrl-C: how a run looks, and how it stops."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from rich.progress import Progress as RichProgress

from wan2_i2v.doors.cli import main, progress, running
from wan2_i2v.events import Finished, Log, Progress, Started

EVENTS = [
    Started("a", "text", 1),
    Progress("a", "text", 1, 1),
    Started("b", "text", 1),
    Progress("b", "text", 1, 1),
    Log("b", "warning", "[odd] picture"),
    Started("a", "denoise high", 4),
    *(Progress("a", "denoise high", done, 4) for done in (1, 2, 3, 4)),
    Finished("a", "done", "a.mp4"),
]


def test_lines_are_one_per_stage(capsys):
    with progress.watching(2, silent=False) as on_event:
        for event in EVENTS:
            on_event(event)
    assert capsys.readouterr().err.splitlines() == [
        "text of 2 clips", "b: [odd] picture", "denoise high of 2 clips (4 steps)",
    ]  # fmt: skip


def test_silence(capsys):
    with progress.watching(1, silent=True) as on_event:
        for event in EVENTS:
            on_event(event)
    assert capsys.readouterr() == ("", "")


def test_a_bar_per_stage_counts_all_clips():
    console = Console(file=io.StringIO(), force_terminal=True)
    with RichProgress(console=console) as rich:
        bars = progress.Bars(rich, 2)
        for event in EVENTS:
            bars(event)
        text, denoise = rich.tasks
    assert (text.completed, text.total) == (2, 2)
    assert (denoise.completed, denoise.total) == (4, 8)
    assert "[odd] picture" in console.file.getvalue()


def test_the_first_interrupt_asks_and_the_second_ends():
    before = signal.getsignal(signal.SIGINT)
    with running.cancelling() as cancelled:
        assert not cancelled()
        signal.raise_signal(signal.SIGINT)
        assert cancelled()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to another process")
def test_interrupted_command_says_how_to_go_on(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save("boat.png")
    small = ["--model", str(checkpoint), "-l", "5", "-w", "48", "--height", "32", "--seed", "1", "--steps", "200"]
    command = [sys.executable, "-m", "wan2_i2v.doors.cli", "generate", "boat.png", *small]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        latents = Path("output/jobs/boat-1/latents.safetensors")
        deadline = time.monotonic() + 300
        while not latents.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    assert "Stopping after this step" in err
    job = str(Path("output/jobs/boat-1"))
    assert f"wan2-i2v resume {job}" in err.splitlines()[-1]
    assert main(["resume", job, "-q"]) in (0, 3)
    assert Path(capsys.readouterr().out.strip()).is_file()
