"""Power cuts at every instant of the store's and the artifacts' writing, from a recording of what was written and flushed when.

A service accepts and computes jobs while power_cut.c (compiled with `cc`, loaded by LD_PRELOAD) records every write, flush,
rename, link and removal below its folder, and the moment at which each job was acknowledged. After each of these operations
the disk is built as it may be found: as a kill leaves it; with nothing but what was flushed; with all names but only flushed
bytes; with half of what was not flushed. On each such disk the store has to open, with every acknowledged job in it, request and
plan whole, and its picture whole once the service has laid it out; no visible artifact may be cut short; a job that is done has
its video. On some of them the jobs are run again: the videos are those of the undisturbed run. That the recording is complete is checked too: played to its
end it is the folder, byte by byte. The last line of stdout is one JSON object.

    python benchmarks/power_cut.py [--jobs 3] [--every 1] [--resumed 6] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from benchmarks.disk_replay import VARIANTS, Disk, Operation, read_log

from requests_http import png

SETTINGS = {"prompt": "pan left", "num_frames": 5, "width": 64, "height": 64, "num_inference_steps": 2}
PATIENCE = 3600.0


def record(root: Path, model: str, jobs: int) -> None:
    """The recorded process: accept jobs, say so, compute them, cancel one more."""
    from wan2_i2v.jobs.service import Service, ServiceSettings, Submission
    from wan2_i2v.jobs.worker import Limits

    service = Service(ServiceSettings(model, "cpu", limits=Limits(batch=2, idle_poll=0.1)))
    service.start()
    names = [f"job-{seed}" for seed in range(jobs)]
    for seed, name in enumerate([*names, "cancelled"]):
        service.submit(Submission(SETTINGS | {"seed": seed}, png(64, 64), name, priority=-(name == "cancelled")))
        os.access(root / ".acknowledged" / name, os.F_OK)
    service.store.cancel("cancelled")
    deadline = time.monotonic() + PATIENCE
    while not all(service.store.get(name).is_over for name in names) and time.monotonic() < deadline:
        time.sleep(0.1)
    states = [service.store.get(name).state for name in names]
    service.stop()
    assert states == ["done"] * jobs, states


def recording(root: Path, model: str, jobs: int) -> list[Operation]:
    """Run `record` in a process of its own below `root / "disk"`; what it did to the disk."""
    library, log, disk = root / "record.so", root / "log", root / "disk"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl", "-lpthread"], check=True)
    disk.mkdir()
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "RECORD_ROOT": str(disk),
        "RECORD_LOG": str(log),
        "WAN2_I2V_OUTPUT": str(disk / "output"),
        "WAN2_I2V_LOCKS": str(root / "locks"),
        "WAN2_I2V_CACHE": str(root / "cache"),
    }
    command = [sys.executable, __file__, "--record", str(disk), "--model", model, "--jobs", str(jobs)]
    subprocess.run(command, env=environment, check=True)
    return list(read_log(log, str(disk)))


def check(folder: Path, acknowledged: set[str], videos: dict[str, str]) -> list[str]:
    """What is wrong with a disk after a cut. `videos`: SHA-256 of the undisturbed ones."""
    problems = [f"{path.relative_to(folder)}: {problem}" for path, problem in cut_short(folder, videos)]
    database = folder / "output" / "jobs" / "queue.db"
    if not database.exists():
        return problems + ([f"no database, but {acknowledged} acknowledged"] if acknowledged else [])
    return problems + list(_store_problems(folder, database, acknowledged))


def _store_problems(folder: Path, database: Path, acknowledged: set[str]) -> Iterator[str]:
    from wan2_i2v.errors import Wan2I2VError
    from wan2_i2v.jobs.service import lay_out
    from wan2_i2v.jobs.shelf import Shelf
    from wan2_i2v.jobs.store import Store
    from wan2_i2v.plan import JobPlan
    from wan2_i2v.request import GenerateRequest

    shelf = Shelf(folder / "output" / "pictures")
    try:
        store = Store(f"sqlite:///{database}")
    except Exception as error:
        yield f"the store does not open: {error}"
        return
    try:
        with store.reading() as connection:
            verdict = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        if verdict != "ok":
            yield f"integrity_check: {verdict}"
        for name in acknowledged:
            job = store.find(name)
            if job is None:
                yield f"{name} is lost"
                continue
            try:
                plan = JobPlan.model_validate_json(job.plan)
                GenerateRequest.model_validate_json(job.request)
            except ValueError as error:
                yield f"{name} has no plan or request: {error}"
                continue
            # As the worker does when the job begins.
            with contextlib.suppress(Wan2I2VError, OSError):
                lay_out(job, shelf)
            if not Path(plan.image.path).is_file() or sha256(Path(plan.image.path)) != plan.image.sha256:
                yield f"{name} has no picture"
            if job.state == "done" and not (folder / "output" / f"{name}.mp4").is_file():
                yield f"{name} is done without a video"
    finally:
        store.close()


def cut_short(folder: Path, videos: dict[str, str]) -> Iterator[tuple[Path, str]]:
    """Visible files that are not whole."""
    from PIL import Image
    from safetensors import safe_open

    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file() or path.name.startswith("queue.db"):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as tensors:
                    for key in tensors.keys():  # noqa: SIM118  (no mapping)
                        tensors.get_tensor(key)
            elif path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
            elif path.parent.name == "output" and path.suffix == ".mp4":
                assert sha256(path) == videos[path.stem], "another video"
            elif path.parent.name == "pictures":
                assert sha256(path) == path.name, "another picture"
            elif path.name.startswith("picture-"):
                assert sha256(path).startswith(path.name.removeprefix("picture-")), "another picture"
        except Exception as error:
            yield path, f"{type(error).__name__} {error}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resumed(operations: list[Operation], disk: Path, videos: dict[str, str]) -> list[str]:
    """Run the acknowledged jobs again on what was flushed; what is wrong with their videos."""
    from wan2_i2v import pipeline
    from wan2_i2v.jobs.service import lay_out
    from wan2_i2v.jobs.shelf import Shelf
    from wan2_i2v.jobs.store import Store
    from wan2_i2v.plan import JobPlan
    from wan2_i2v.request import GenerateRequest
    from wan2_i2v.stages.base import Job
    from wan2_i2v.workspace import Workspace

    recorded = Disk()
    for operation in operations:
        recorded.apply(operation)
    write(recorded.found("flushed"), disk)
    store, shelf = Store(f"sqlite:///{disk}/output/jobs/queue.db"), Shelf(disk / "output" / "pictures")
    jobs = []
    for name in sorted(recorded.acknowledged & set(videos)):
        kept, workspace = store.get(name), Workspace(disk / "output" / "jobs" / name)
        lay_out(kept, shelf)
        plan = JobPlan.model_validate_json(kept.plan)
        workspace.create(GenerateRequest.model_validate_json(kept.request), plan)
        jobs.append(Job(plan, workspace))
    store.close()
    records = pipeline.run(jobs)
    problems = [f"{one.job_id} {one.status}: {one.error}" for one in records if one.status != "done"]
    wrong = [one.job_id for one in records if one.video and sha256(Path(one.video)) != videos[one.job_id]]
    return problems + [f"{name}: another video" for name in wrong]


def run(root: Path, model: str, jobs: int, every: int, resumes: int) -> dict[str, Any]:
    """The whole measurement below `root`."""
    operations = recording(root, model, jobs)
    disk = root / "disk"
    videos = {path.stem: sha256(path) for path in (disk / "output").glob("*.mp4")}
    assert len(videos) == jobs
    undisturbed = disk.rename(root / "undisturbed")
    problems: list[str] = []
    states: set[tuple[bytes, int]] = set()
    flushed_at: list[int] = []
    recorded = Disk()
    for number, operation in enumerate(operations):
        recorded.apply(operation)
        for variant in VARIANTS if number % every == 0 else ():
            files = recorded.found(variant)
            state = (hashlib.sha256(repr(sorted(files.items())).encode()).digest(), len(recorded.acknowledged))
            if state in states:
                continue
            states.add(state)
            if variant == "flushed" and recorded.acknowledged:
                flushed_at.append(number)
            write(files, disk)
            found = check(disk, recorded.acknowledged, videos)
            problems += [f"after operation {number} ({operation.describe()}), {variant}: {one}" for one in found]
    replayed, real = recorded.found("killed"), read(undisturbed)
    other = sorted(name for name in replayed.keys() | real.keys() if replayed.get(name) != real.get(name))
    chosen = flushed_at[:: max(1, len(flushed_at) // resumes)][:resumes] if resumes else []
    problems += [f"resumed after {at}: {one}" for at in chosen for one in resumed(operations[: at + 1], disk, videos)]
    return {
        "operations": len(operations),
        "flushes": sum(operation.kind == "sync" for operation in operations),
        "acknowledged": len(recorded.acknowledged),
        "disks_examined": len(states),
        "resumed": len(chosen),
        "recorded_otherwise": other,
        "problems": problems,
    }


def write(files: dict[str, bytes | None], folder: Path) -> None:
    """Make `folder` hold exactly these: bytes of files, None for folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in sorted(files.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


def read(folder: Path) -> dict[str, bytes | None]:
    """Everything below `folder` as `Disk.found` gives it."""
    found = {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
    return {name: content for name, content in found.items() if not name.endswith("-shm")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="look at the disk after every so many operations")
    parser.add_argument("--resumed", type=int, default=6, help="on how many disks the jobs are run again")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record:
        record(args.record, args.model, args.jobs)
        return
    with tempfile.TemporaryDirectory(prefix="power-cut-") as folder:
        result = run(Path(folder), args.model, args.jobs, args.every, args.resumed)
    result |= {"date": date.today().isoformat()}
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result | {"problems": result["problems"][:20]}))
    raise SystemExit(bool(result["problems"]) or bool(result["recorded_otherwise"]))


if __name__ == "__main__":
    main()
