"""A program for test_disks.py: a service whose output folder is a small disk of its own, made read-only, then full.

Usage: disk_driver.py CHECKPOINT FOLDER, inside a mount namespace of its own (unshare -rm). Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHECKPOINT, FOLDER = sys.argv[1], Path(sys.argv[2])
OUTPUT = FOLDER / "output"
FIELDS = {"prompt": "pan left", "num_frames": 5, "width": 48, "height": 32, "num_inference_steps": 60, "seed": 5}
PATIENCE = 600.0


def picture() -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(data, "PNG")
    return data.getvalue()


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def wait(service: Any, name: str, accept: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        job = service.store.get(name)
        if accept(job):
            return job
        time.sleep(0.01)
    raise SystemExit(f"{name} stayed {job}")


def fill() -> Path:
    """A file that takes all the room that is left."""
    filler = OUTPUT / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler


def refusal(service: Any, name: str) -> dict[str, Any]:
    from wan2_i2v.errors import Wan2I2VError
    from wan2_i2v.jobs.service import Submission

    try:
        service.submit(Submission(FIELDS, picture(), name))
    except Wan2I2VError as error:
        return error.to_dict() | {"status": error.http_status, "left": service.folder(name).exists()}
    return {}


def main() -> None:
    OUTPUT.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(OUTPUT))
    # The database stays open for writing, with which no mount becomes read-only: the jobs get a mount of their own.
    (OUTPUT / "jobs").mkdir()
    mount("--bind", str(OUTPUT / "jobs"), str(OUTPUT / "jobs"))
    os.environ |= {"WAN2_I2V_OUTPUT": str(OUTPUT), "WAN2_I2V_CACHE": str(FOLDER / "cache")}
    from wan2_i2v.jobs.service import Service, ServiceSettings, Submission
    from wan2_i2v.jobs.worker import Limits

    limits = Limits(beat=0.1, idle_poll=0.1)
    service = Service(ServiceSettings(CHECKPOINT, "cpu", limits=limits, lock_folder=FOLDER / "locks"))
    service.start()
    told: dict[str, Any] = {}
    service.submit(Submission(FIELDS, picture(), "whole"))
    wait(service, "whole", lambda job: job.is_over)

    mount("-o", "remount,bind,ro", str(OUTPUT))
    told["read-only"] = refusal(service, "ro") | {"known": service.store.get("whole").state}
    mount("-o", "remount,bind,rw", str(OUTPUT))

    service.submit(Submission(FIELDS, picture(), "full"))
    wait(service, "full", lambda job: job.progress is not None and job.progress["stage"].startswith("denoise"))
    filler = fill()
    told["full"] = refusal(service, "late")
    time.sleep(2)
    filler.unlink()
    job = wait(service, "full", lambda job: job.is_over)
    told["computing"] = {"state": job.state, "error": job.error}
    if job.state != "done":
        service.store.retry("full")
        service.worker.wake.set()
        wait(service, "full", lambda job: job.is_over)
    told["after"] = service.store.get("full").state
    service.stop()
    told["videos"] = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in OUTPUT.glob("*.mp4")}
    told["hidden"] = [str(path) for path in OUTPUT.rglob(".*") if path.name != ".lock"]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
