"""Artifacts as parcels: names below the job's folder with their bytes, as Ray's object store holds them.

Comes in: a job's folder. Goes out: arrays that travel by reference, and the same files in another folder, each written whole or
not at all. Which stage needs and makes which artifact stands here.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from wan2_i2v import places
from wan2_i2v.errors import ClusterError
from wan2_i2v.plan import JobPlan
from wan2_i2v.workspace import Workspace, replacing, replacing_folder

Parcel = dict[str, npt.NDArray[np.uint8]]

NEEDS = {
    "text": (),
    "image": ("prepared",),
    "denoise": ("prepared", "text", "conditioning", "latents"),
    "decode": ("latents",),
    "verify": ("prepared", "clip", "latents"),
}
MAKES = {"text": "text", "image": "conditioning", "denoise": "latents", "decode": "clip", "verify": "verification"}
ARTIFACTS = ("prepared", *MAKES.values())


def needs(stage: str) -> tuple[str, ...]:
    """The artifacts that a stage reads, where they exist: there are no latents before the first step."""
    return NEEDS[stage.partition(" ")[0]]


def makes(stage: str) -> str:
    """The artifact that a stage leaves."""
    return MAKES[stage.partition(" ")[0]]


def pack(workspace: Workspace, plan: JobPlan, artifact: str) -> Parcel:
    """An artifact's files; empty when it does not exist yet."""
    parcel: Parcel = {}
    for path in _paths(workspace, plan, artifact):
        files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
        for file in files:
            parcel[file.relative_to(workspace.root).as_posix()] = np.fromfile(file, dtype=np.uint8)
    return parcel


def unpack(parcel: Parcel, workspace: Workspace) -> None:
    """Put a parcel's files into a job's folder, in place of those of the same names.

    Raises ClusterError for a name that leads elsewhere, OSError where the files cannot be written.
    """
    folders: dict[str, Parcel] = defaultdict(dict)
    for name, data in parcel.items():
        parts = PurePosixPath(name).parts
        if not 1 <= len(parts) <= 2 or ".." in parts or PurePosixPath(name).is_absolute():
            raise ClusterError(f"a worker sent a file named {name!r}; only files of the job's own folder are taken.")
        if len(parts) == 2:
            folders[parts[0]][parts[1]] = data
            continue
        with replacing(workspace.root / name) as temporary:
            data.tofile(temporary)
    for folder, files in folders.items():
        with replacing_folder(workspace.root / folder) as temporary:
            for name, data in files.items():
                data.tofile(temporary / name)


def _paths(workspace: Workspace, plan: JobPlan, artifact: str) -> tuple[Path, ...]:
    known = {
        "prepared": (workspace.prepared, workspace.prepared_last),
        "text": (workspace.text,),
        "conditioning": (workspace.conditioning,),
        "latents": (workspace.latents,),
        "clip": (places.clip_path(workspace, plan),),
        "verification": (workspace.verification,),
    }
    return known[artifact]
