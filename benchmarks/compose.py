"""`docker compose` as far as docker-compose.yml needs it, carried out by `buildah`. Imported by `container`.

Comes in: the parsed file, a folder that stands for the user's, the variables that the user exported. Goes out: containers
run with the file's environment, mounts and user. Ports need nothing: a container of `buildah` shares the host's network.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads Compose's own tag too: `!reset` takes away what an earlier file has."""


_Loader.add_constructor("!reset", lambda loader, node: None)


def load(*paths: Path) -> dict[str, Any]:
    """Compose files, later ones over earlier ones, as nested dictionaries; `${NAME:-default}` stays as it is."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merged(merged, yaml.load(path.read_text(encoding="utf-8"), _Loader))
    return merged


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
        out[name] = _merged(out[name], value) if both else value
    return out


def filled(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:-default}` replaced: the variable where it is set and not empty, else the default."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


def environment(service: Mapping[str, Any], exported: Mapping[str, str]) -> dict[str, str]:
    """What a container's environment is: a name without a value is passed on where it is exported, else left out."""
    given = {
        name: exported.get(name) if value is None else str(value) for name, value in service["environment"].items()
    }
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Buildah:
    """The program, with a storage of its own below `storage`."""

    storage: Path

    def command(self, *arguments: str) -> list[str]:
        folders = ("--root", str(self.storage / "store"), "--runroot", str(self.storage / "run"))
        return ["buildah", *folders, *arguments]

    def ask(self, *arguments: str) -> str:
        """What it printed. Raises CalledProcessError; what it says goes to stderr."""
        return subprocess.run(self.command(*arguments), check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@dataclass(frozen=True)
class Project:
    """One service of a compose file in the user's `folder`, with `image` in the storage of `buildah`."""

    buildah: Buildah
    service: Mapping[str, Any]
    folder: Path
    image: str

    def container(self) -> str:
        """A fresh container's name. Takes the place of Compose's network: the service's name means this machine."""
        return self.buildah.ask("from", "-q", "--pull-never", "--add-host", "wan2-i2v:127.0.0.1", self.image)

    def command(self, container: str, words: Sequence[str], exported: Mapping[str, str]) -> list[str]:
        """The command line that runs `words` in `container`, as this service's."""
        options = ["--isolation=chroot", "--user", filled(self.service["user"], exported)]
        for name, value in environment(self.service, exported).items():
            options += ["--env", f"{name}={value}"]
        for volume in self.service["volumes"]:
            source, target = volume.split(":")
            options += ["--volume", f"{(self.folder / source).resolve()}:{target}:rw"]
        return self.buildah.command("run", *options, container, "--", *words)

    def run(self, words: Sequence[str], exported: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm`: in a container of its own, which is gone afterwards."""
        container = self.container()
        try:
            return subprocess.run(self.command(container, words, exported), capture_output=True, text=True)
        finally:
            self.buildah.ask("rm", container)
