"""A real ComfyUI server, from the checkout that COMFYUI_DIR names, with the Python that COMFYUI_PYTHON names.

It has a folder of its own for models, pictures and videos: the golden data's tiny experts under the names of the published
files, and `stand_ins` in place of the text encoder and the VAE. Otherwise the server is as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from comfy_double import FILES
from safetensors.torch import save_file

CHECKOUT = os.environ.get("COMFYUI_DIR", "")
PATIENCE = 180.0
OPTIONS = ("--cpu", "--disable-api-nodes", "--cache-none", "--preview-method", "latent2rgb")


class Script:
    """What the next graphs meet, told to the server's samplers through a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.unlink(missing_ok=True)

    def __bool__(self) -> bool:
        """Whether a fate has not been met yet."""
        return self.path.exists() and json.loads(self.path.read_text() or "[1]") != []

    def extend(self, fates: Iterable[str]) -> None:
        told = json.loads(self.path.read_text()) if self.path.exists() else []
        self.path.write_text(json.dumps([*told, *fates]))

    def append(self, fate: str) -> None:
        self.extend([fate])


class ComfyReal:
    """Start with `start`, end with `stop`; has what tests of `ComfyDouble` use and a real server can offer."""

    def __init__(self, folder: Path, tiny_wan: ModuleType, golden: Path) -> None:
        self._folder = folder
        pack = folder / "custom_nodes" / "stand_ins"
        shutil.copytree(Path(__file__).with_name("stand_ins"), pack, ignore=shutil.ignore_patterns("__pycache__"))
        (pack / "golden.json").write_text(json.dumps(str(golden)))
        write_models(folder / "models", tiny_wan)
        self._script = pack / "script.json"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.script = Script(self._script)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> ComfyReal:
        """Raises AssertionError, with the end of the server's log, when it does not come up."""
        where = ("--listen", "127.0.0.1", "--port", str(self._port), "--base-directory", str(self._folder))
        database = ("--database-url", f"sqlite:///{self._folder}/comfyui.db")
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [python, "main.py", *OPTIONS, *where, *database], cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            )  # fmt: skip
        begin = time.monotonic()
        while not self._answers():
            tail = (self._folder / "log.txt").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None and time.monotonic() - begin < PATIENCE, tail
            time.sleep(0.2)
        return self

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self, after: float = 0.0) -> None:
        self.stop()
        time.sleep(after)
        self.start()

    def reset(self) -> None:
        """As before the last test: nothing scripted, queue and history empty, and running when it was ended."""
        self.script = Script(self._script)
        if self._process.poll() is not None:
            self.start()
        for path, body in (("/interrupt", {}), ("/queue", {"clear": True}), ("/history", {"clear": True})):
            self._ask(path, body)
        begin = time.monotonic()
        while self.running:
            assert time.monotonic() - begin < PATIENCE
            time.sleep(0.05)
        self._ask("/history", {"clear": True})

    @property
    def version(self) -> str:
        return str(self._ask("/system_stats")["system"]["comfyui_version"])

    @property
    def history(self) -> dict[str, Any]:
        return dict(self._ask("/history"))

    @property
    def running(self) -> list[Any]:
        return list(self._ask("/queue")["queue_running"])

    @property
    def waiting(self) -> list[Any]:
        return list(self._ask("/queue")["queue_pending"])

    def _answers(self) -> bool:
        try:
            self._ask("/queue")
        except OSError:
            return False
        return True

    def _ask(self, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            told = answer.read()
        return json.loads(told) if told else None


def write_models(folder: Path, tiny_wan: ModuleType) -> None:
    """The published files' names: experts and LoRAs tiny and real, the rest empty, as the stand-ins do not open them."""
    for kind, names in FILES.items():
        for name in names:
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            which = "high" if "high_noise" in name else "low"
            if kind == "diffusion_models":
                save_file({key: torch.from_numpy(value) for key, value in tiny_wan.expert(which).items()}, path)
            elif kind == "loras":
                key = "diffusion_model.blocks.0.self_attn.q"
                down, up = (torch.from_numpy(tiny_wan.normal(f"{which}:{key}:{part}", (4, 256))) for part in "AB")
                weights = {f"{key}.lora_A.weight": 0.01 * down, f"{key}.lora_B.weight": 0.01 * up.T.contiguous()}
                save_file(weights, path)
            else:
                path.touch()
