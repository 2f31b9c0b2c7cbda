"""Where a job's video goes, and whether it can go there. A leaf without torch: doors, decode and finish import it."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from wan2_i2v.errors import InvalidRequest, OutputError
from wan2_i2v.media import metadata
from wan2_i2v.media.formats import SUFFIXES, ClipFormat
from wan2_i2v.plan import JobPlan
from wan2_i2v.request import Container
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import Workspace

BYTES_PER_PIXEL: dict[Container, float] = {"mp4": 0.2, "webm": 0.15, "gif": 1.0, "webp": 0.3, "png": 3.0}
"""A generous size of one pixel of one frame in the file; the video lies in the job's folder too."""


UNWRITTEN = (
    *(".mov", ".m4v", ".avi", ".mkv", ".flv", ".wmv", ".asf", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".3gp"),
    *(".3g2", ".ogv", ".ogg", ".vob", ".mxf", ".apng", ".avif", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
)
"""Suffixes of videos and pictures that no container here has: a name with one of them was not meant as a folder's."""
WRITTEN = tuple(
    f"--container {container} for {suffix if container != 'png' else 'a folder of PNG frames'}"
    for container, suffix in SUFFIXES.items()
)


def clip_format(plan: JobPlan) -> ClipFormat:
    return ClipFormat(plan.container, plan.width, plan.height, plan.fps, plan.crf)


def clip_path(workspace: Workspace, plan: JobPlan) -> Path:
    """The clip as the decode stage leaves it: a file, or a folder of PNG frames."""
    return workspace.root / f"clip{SUFFIXES[plan.container]}"


def final_path(plan: JobPlan) -> Path:
    """Where the finished video goes: `plan.output` when it names a file of the container, else a name in that folder.

    Raises InvalidRequest when the suffix is that of another container, or of a format that is not written.
    """
    output = Path(plan.output).expanduser() if plan.output else Settings().output
    suffix = SUFFIXES[plan.container]
    if os.path.isdir(output):  # noqa: PTH112  (Path.is_dir raises for a name that is too long)
        return output / f"{plan.job_id}{suffix}"
    if output.suffix.lower() == suffix:
        return output
    allowed = f"a folder or a file ending in {suffix}" if plan.container != "png" else "a folder"
    for container, other in SUFFIXES.items():
        if output.suffix.lower() == other:
            raise InvalidRequest("output", plan.output, allowed, f"For this name say --container {container}.")
    if output.suffix.lower() in UNWRITTEN:
        raise InvalidRequest("output", plan.output, allowed, f"What is written: {', '.join(WRITTEN)}.")
    return output / f"{plan.job_id}{suffix}"


def sidecar_path(video: Path) -> Path:
    """The record beside a video: `clip.mp4.json`."""
    return video.with_name(f"{video.name}.json")


def finished(workspace: Workspace) -> bool:
    """Whether the job is over and its video still where it was put."""
    record = workspace.load_record()
    return record is not None and record.status == "done" and record.video is not None and Path(record.video).exists()


class Folders:
    """Folders that were seen to take a file, which holds for `seconds`.

    A server asks for each of the jobs that a crowd submits, and to make a file takes as long as half of the rest.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._found: dict[tuple[Path, int], tuple[float, Path]] = {}

    def writable(self, folder: Path, prefix: str) -> Path:
        """The nearest existing folder of `folder` and those above, shown to take a file whose name begins with `prefix`.

        The file is gone at once. Raises OSError.
        """
        # A name that is too long is an obstacle of its own.
        key, now = (folder, len(os.fsencode(prefix))), time.monotonic()
        at, nearest = self._found.get(key, (-math.inf, folder))
        if now - at >= self._seconds:
            nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
            with tempfile.NamedTemporaryFile(prefix=prefix, dir=nearest):
                self._found[key] = now, nearest
        return nearest


def check_writable(*plans: JobPlan, jobs: Path | None = None, folders: Folders | None = None) -> None:
    """Refuse, before any work, videos that could not be put at their final places. Creates nothing.

    `jobs` is where the jobs' folders are, when that is known; else the settings are asked, which takes milliseconds.
    What `folders` know already is not looked at again. A target that exists is no obstacle when it is to be overwritten, or
    already is the very video that the plan makes.

    Raises OutputError for a place that cannot be written, has no room or is taken, InvalidRequest for a bad name.
    """
    folders = folders or Folders()
    takers: dict[Path, str] = {}
    needed: list[tuple[Path, float]] = []
    for plan in plans:
        clip_format(plan)
        target = final_path(plan)
        if target.absolute() in takers:
            raise OutputError(
                f"{target} would be the output of both {takers[target.absolute()]} and {plan.job_id}. "
                "Give a folder as --output, and jobs of different names."
            )
        takers[target.absolute()] = plan.job_id
        try:
            folder = _check_place(plan, target, folders)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror}. Choose another --output.") from error
        needed.append((folder, _estimate(plan)))
    if plans:
        needed.append((_check_jobs(jobs or Settings().jobs, folders), sum(map(_working_estimate, plans))))
    _check_room(needed)


def _check_place(plan: JobPlan, target: Path, folders: Folders) -> Path:
    """The nearest existing folder above `target`, proven writable with a file of the longest name that is needed."""
    if target.exists() and not plan.overwrite and not _is_video_of(plan, target):
        raise OutputError(metadata.taken(target))
    check_sidecar(target)
    return folders.writable(target.absolute().parent, f".{sidecar_path(target).name}-")


def _check_jobs(jobs: Path, folders: Folders) -> Path:
    """The nearest existing folder above the jobs' folders, proven writable.

    Raises OutputError.
    """
    jobs = jobs.absolute()
    try:
        return folders.writable(jobs, ".job-")
    except OSError as error:
        raise OutputError(
            f"cannot write {jobs}, where jobs keep their artifacts: {error.strerror}. "
            "Set WAN2_I2V_OUTPUT to another folder."
        ) from error


def _is_video_of(plan: JobPlan, target: Path) -> bool:
    """Whether `target` carries exactly this plan, as after a crash between writing the video and its record."""
    try:
        return metadata.read(target).get("plan") == plan.content()
    except InvalidRequest:
        return False


def check_sidecar(video: Path) -> None:
    """Raise OutputError when the sidecar's name is taken by a file that is no record of an earlier run."""
    path = sidecar_path(video)
    if not path.exists():
        return
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not (isinstance(content, dict) and {"job_id", "plan"} <= content.keys()):
        raise OutputError(f"{path} exists and is no record of this program; move it, or choose another --output.")


def _estimate(plan: JobPlan) -> float:
    """Bytes of the video; see BYTES_PER_PIXEL."""
    return BYTES_PER_PIXEL[plan.container] * plan.width * plan.height * plan.num_frames


def _working_estimate(plan: JobPlan) -> float:
    """Bytes that a job's own folder needs: 36 latent channels of float32, written anew beside the old, and the clip."""
    latent = plan.latent
    return 2 * 4 * 36 * latent.frames * latent.height * latent.width + _estimate(plan)


def _check_room(needed: Sequence[tuple[Path, float]]) -> None:
    """Raise OutputError when a disk has less room than all that is to lie on it; folders share disks."""
    disks: dict[int, tuple[Path, float]] = {}
    for folder, size in needed:
        disk = folder.stat().st_dev
        first, sum_before = disks.get(disk, (folder, 0.0))
        disks[disk] = first, sum_before + size
    for folder, size in disks.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OutputError(
                f"{folder} has {free / 1e6:,.1f} MB free; videos and artifacts may need {size / 1e6:,.1f} MB. "
                "Free some space, choose another --output, or set WAN2_I2V_OUTPUT."
            )
