"""Whether a ComfyUI server has all that a graph needs: nodes, files, choices. Imported by the ComfyUI stage and backend.

Comes in: a client and a graph. Goes out: the graph with its files' names as the server has them (it lists them with their
subfolders), or what is missing, each with where it is usually got.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from wan2_i2v.comfyui.client import ComfyUI
from wan2_i2v.comfyui.graph import GGUF, NAG, Graph
from wan2_i2v.errors import CheckpointError, ComfyUIError

PACKS = {
    NAG: "the node pack ComfyUI-KJNodes, https://github.com/kijai/ComfyUI-KJNodes",
    GGUF: "the node pack ComfyUI-GGUF, https://github.com/city96/ComfyUI-GGUF",
}
"""Where nodes come from that ComfyUI itself lacks."""
FOLDERS = {
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "vae_name": "vae",
    "lora_name": "loras",
    "ckpt_name": "checkpoints",
}
"""The inputs that name model files, and ComfyUI's folder for each."""
UPLOADED = ("image",)
"""Inputs whose choices are files that come only with the job."""


class Inventory:
    """What one server has; each node is asked for once. `sources`: where files are usually got from, by name."""

    def __init__(self, client: ComfyUI, sources: Mapping[str, str]) -> None:
        self._client, self._sources = client, sources
        self._node = lru_cache(maxsize=None)(client.node)
        self._listing = lru_cache(maxsize=1)(self._all_files)

    def memory(self) -> int:
        """Bytes of the memory that the server's first device computes in; 0 when it does not say."""
        devices = self._client.system().get("devices") or [{}]
        return int(devices[0].get("vram_total") or 0)

    def has_node(self, class_type: str) -> bool:
        return self._node(class_type) is not None

    def settled(self, graph: Graph) -> Graph:
        """The graph with the names that the server has.

        Raises CheckpointError for files that are missing, ComfyUIError for nodes or choices.
        """
        settled, files, others = self._compared(graph)
        if files or others:
            kind = ComfyUIError if others else CheckpointError
            raise kind(f"ComfyUI at {self._client.url} lacks {'; '.join((*others, *files))}.")
        return settled

    def lacking(self, graph: Graph) -> list[str]:
        """What is missing, in words; empty when the server has everything."""
        _, files, others = self._compared(graph)
        return others + files

    def _compared(self, graph: Graph) -> tuple[Graph, list[str], list[str]]:
        settled = copy.deepcopy(graph)
        files: dict[str, None] = {}
        others: dict[str, None] = {}
        for node in settled.values():
            info = self._node(node["class_type"])
            if info is None:
                others[self._missing_node(node["class_type"])] = None
                continue
            for name, options in _choices(info):
                given = node["inputs"].get(name)
                if name in UPLOADED or not isinstance(given, str) or given in options:
                    continue
                near = next((option for option in options if _base(option) == _base(given)), None)
                if near is not None and name in FOLDERS:
                    node["inputs"][name] = near
                elif name in FOLDERS:
                    files[self._missing_file(FOLDERS[name], given)] = None
                else:
                    others[f"{name} {given!r} of {node['class_type']}: update ComfyUI"] = None
        return settled, list(files), list(others)

    def _missing_node(self, class_type: str) -> str:
        return f"the node {class_type}: {PACKS.get(class_type, 'update ComfyUI')}"

    def _missing_file(self, folder: str, name: str) -> str:
        elsewhere = [other for other, names in self._listing().items() if _base(name) in map(_base, names)]
        if elsewhere:
            return f"models/{folder}/{name}: it lies in models/{elsewhere[0]}, move it"
        source = self._sources.get(_base(name))
        return f"models/{folder}/{name}" + (f": get it from {source}" if source else "")

    def _all_files(self) -> dict[str, list[str]]:
        return {folder: self._client.files(folder) for folder in self._client.folders() if folder != "custom_nodes"}


def _choices(info: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """The inputs of a node that take one of a list, in either of the two forms that servers have for that."""
    inputs = info.get("input") or {}
    for group in ("required", "optional"):
        for name, form in (inputs.get(group) or {}).items():
            if not isinstance(form, list) or not form:
                continue
            if isinstance(form[0], list):
                yield name, form[0]
            elif form[0] == "COMBO" and len(form) > 1 and isinstance(form[1], dict):
                options = form[1].get("options")
                if isinstance(options, list):
                    yield name, options


def _base(name: Any) -> str:
    return PurePosixPath(str(name).replace("\\", "/")).name
