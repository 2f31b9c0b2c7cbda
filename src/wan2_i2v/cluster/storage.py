"""A second place for artifacts, any that fsspec knows (`s3://bucket/jobs`, a shared folder): workers write there, and a driver on
another machine goes on from there.

One object per artifact, a tar file, below the job's id and its plan's fingerprint, so that one job never takes another's.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from wan2_i2v.cluster.parcels import Parcel
from wan2_i2v.errors import ClusterError
from wan2_i2v.plan import JobPlan


@dataclass(frozen=True)
class Storage:
    """`url` of the folder that holds the jobs'."""

    url: str

    def save(self, plan: JobPlan, artifact: str, parcel: Parcel) -> None:
        """Raises ClusterError when the place is not there or cannot be written."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in parcel.items():
                entry = tarfile.TarInfo(name)
                entry.size = data.nbytes
                tar.addfile(entry, io.BytesIO(data.tobytes()))
        system, root, path = self._place(plan, artifact)
        self._require(system, root)
        try:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            # A transaction: the object is there whole or not at all, on file systems too.
            with system.transaction, system.open(path, "wb") as target:
                target.write(buffer.getvalue())
        except Exception as error:
            raise self._failed("write", path, error) from error

    def load(self, plan: JobPlan, artifact: str) -> Parcel:
        """What was saved; empty when nothing was. Raises ClusterError when the place cannot be read."""
        system, _, path = self._place(plan, artifact)
        try:
            data = system.cat_file(path)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._failed("read", path, error) from error
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {entry.name: _bytes(tar, entry) for entry in tar.getmembers()}

    def _place(self, plan: JobPlan, artifact: str) -> tuple[Any, str, str]:
        """The file system, and in it the folder that holds the jobs' and the object's path."""
        import fsspec

        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ClusterError(
                f"WAN2_I2V_CLUSTER_STORAGE is {self.url!r}, which fsspec cannot open here: {error}. Install what it names on "
                "every machine (s3://: pip install s3fs), or give a shared folder."
            ) from error
        return system, root, f"{root.rstrip('/')}/{plan.job_id}-{plan.fingerprint()[:16]}/{artifact}.tar"

    def _require(self, system: Any, root: str) -> None:
        """The bucket or the shared folder has to be there: a misspelt name and a share that is not mounted shall be noticed,
        and fsspec would make either.
        """
        top = root.partition("/")[0] or root
        try:
            found = system.exists(top)
        except Exception as error:
            raise self._failed("read", top, error) from error
        if not found:
            raise ClusterError(
                f"WAN2_I2V_CLUSTER_STORAGE is {self.url!r}, and there is no {top}. Make the bucket or mount the folder, on every "
                "machine, then resume."
            )

    def _failed(self, doing: str, path: str, error: Exception) -> ClusterError:
        return ClusterError(f"cannot {doing} {path} of WAN2_I2V_CLUSTER_STORAGE ({self.url}): {error}.")


def _bytes(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Any:
    file = tar.extractfile(entry)
    assert file is not None
    return np.frombuffer(file.read(), dtype=np.uint8)
