"""A program for test_kill.py: one job in forked children that kill themselves (SIGKILL) at their n-th file operation.

Usage: kill_driver.py CHECKPOINT PICTURE FOLDER SAMPLER STRIDE. Prints one JSON object: the number of file operations of
an undisturbed run, its video's SHA-256, and for every STRIDE-th operation the SHA-256 of the video after kill and resume.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from wan2_i2v import pipeline
from wan2_i2v.devices import detect
from wan2_i2v.models import catalog
from wan2_i2v.pictures import read_facts
from wan2_i2v.plan import plan_job
from wan2_i2v.request import GenerateRequest
from wan2_i2v.stages.base import Job
from wan2_i2v.workspace import Workspace

CHECKPOINT, PICTURE, FOLDER, SAMPLER = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def is_change(event: str, args: tuple[object, ...]) -> bool:
    """Whether an audit event of the interpreter is about to change the disk."""
    if event == "open":
        # The peak of memory is reset through a file of the kernel's, as often as there is time.
        to_write = isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return to_write and not str(args[0]).startswith("/proc/")
    return event in CHANGES


def run_job(name: str) -> None:
    # A cache of its own, so that every job does the same; beside the folder, since a cache may keep a killed write a while.
    os.environ["WAN2_I2V_CACHE"] = str(FOLDER.with_name(f"{FOLDER.name}-caches") / name)
    os.environ["WAN2_I2V_INSIGHTS"] = str(FOLDER.with_name(f"{FOLDER.name}-caches") / name / "insights.db")
    request = GenerateRequest(
        image=str(PICTURE),
        prompt="pan left",
        num_frames=6,
        width=48,
        height=32,
        seed=5,
        sampler=SAMPLER,
        device="cpu",
        num_inference_steps=3,
        output=str(FOLDER / f"{name}.mp4"),
        job_id=name,
    )
    plan = plan_job(request, read_facts(PICTURE), catalog.find(str(CHECKPOINT)), detect("cpu"), seed=0)
    job = Job(plan, Workspace(FOLDER / "jobs" / name))
    job.workspace.create(request, plan)
    (record,) = pipeline.run([job])
    if record.status != "done":
        raise SystemExit(f"{name}: {record.error}")


def child(name: str, kill_before: int | None) -> tuple[int, int]:
    """Run a job in a fork that dies just before its `kill_before`-th change; (exit status, changes seen)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        seen = 0

        def watch(event: str, args: tuple[object, ...]) -> None:
            nonlocal seen
            if is_change(event, args):
                if seen == kill_before:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(watch)
        run_job(name)
        os.write(writer, str(seen).encode())
        os._exit(0)
    os.close(writer)
    seen_by_child = os.read(reader, 20)
    os.close(reader)
    return os.waitpid(pid, 0)[1], int(seen_by_child or 0)


def sha256(name: str) -> str:
    return hashlib.sha256((FOLDER / f"{name}.mp4").read_bytes()).hexdigest()


def main() -> None:
    # Bytecode and folders of a first run would count as changes that later children do not make.
    sys.dont_write_bytecode = True
    (FOLDER / "jobs").mkdir()
    FOLDER.with_name(f"{FOLDER.name}-caches").mkdir()
    status, changes = child("whole", None)
    assert status == 0
    resumed = {}
    for instant in range(0, changes, int(sys.argv[5])):
        name = f"cut-{instant}"
        status, _ = child(name, instant)
        assert os.WTERMSIG(status) == signal.SIGKILL, f"instant {instant} of {changes}: {status}"
        visible = FOLDER / f"{name}.mp4"
        whole_when_visible = not visible.exists() or sha256(name) == sha256("whole")
        status, _ = child(name, None)
        resumed[instant] = sha256(name) if status == 0 and whole_when_visible else f"status {status}"
    print(json.dumps({"changes": changes, "whole": sha256("whole"), "resumed": resumed}))


if __name__ == "__main__":
    main()
