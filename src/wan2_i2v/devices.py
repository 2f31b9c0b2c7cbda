"""What this machine can compute on, found without loading torch. A leaf.

`detect` reads the driver's own tool for NVIDIA cards and the operating system for RAM; the plan needs only these facts,
so `wan2-i2v plan` answers at once. The worker checks later that torch sees the same device.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import psutil

from wan2_i2v.errors import DeviceError

DEVICE_PATTERN = r"auto|cpu|cuda(:\d+)?"
ANSWER_SECONDS = 20.0

BFLOAT16_FROM = (8, 0)
"""First CUDA compute capability whose matrix units take bfloat16 (Ampere); older cards compute in float16."""


@dataclass(frozen=True)
class DeviceFacts:
    """A device to plan for. `name` as torch spells it; memory in bytes; `dtype` is the compute dtype's torch name.

    `cores` of the processor count when it is the device.
    """

    name: str
    label: str
    vram_bytes: int
    ram_bytes: int
    dtype: str
    cores: int = 1
    is_elsewhere: bool = False
    """Another program computes and manages its own memory: nothing is planned for it and no times are known."""

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")


@dataclass(frozen=True)
class Machine:
    """The machine to plan for: this one, with a card of `vram_gb` in place of its own and `ram_gb` of RAM where given.

    GB are GiB, as cards count. An imagined card computes in bfloat16.
    """

    vram_gb: float | None = None
    ram_gb: float | None = None

    def device(self, wanted: str = "auto") -> DeviceFacts:
        """As `detect`, on this machine."""
        here = detect(wanted) if self.vram_gb is None else _cpu()
        ram = here.ram_bytes if self.ram_gb is None else int(self.ram_gb * 2**30)
        if self.vram_gb is None:
            return replace(here, ram_bytes=ram)
        return DeviceFacts("cuda:0", f"a card of {self.vram_gb:g} GB", int(self.vram_gb * 2**30), ram, "bfloat16")


HERE = Machine()


def detect(wanted: str = "auto") -> DeviceFacts:
    """The device that `wanted` (auto, cpu, cuda, cuda:N) names on this machine.

    Raises DeviceError for another name, when the driver shows no CUDA device of that number, or does not answer.
    """
    if not re.fullmatch(DEVICE_PATTERN, wanted):
        raise DeviceError(f"device {wanted!r} is unknown; allowed: auto, cpu, cuda, cuda:N.")
    cards = () if wanted == "cpu" else cuda_cards()
    if wanted == "cpu" or (wanted == "auto" and not cards):
        return _cpu()
    index = int(wanted.partition(":")[2] or 0) if wanted != "auto" else 0
    if index >= len(cards):
        found = ", ".join(f"cuda:{i} ({card.label})" for i, card in enumerate(cards)) or "none"
        raise DeviceError(f"device {wanted!r} was asked for; CUDA cards here: {found}. Use --device cpu or auto.")
    return cards[index]


@lru_cache(maxsize=1)
def cuda_cards() -> tuple[DeviceFacts, ...]:
    """All NVIDIA cards that the driver lists, in its order; empty when there is no driver.

    Raises DeviceError when the driver's tool hangs, as it does for a card that fell off the bus.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"{tool} did not answer within {ANSWER_SECONDS:g} s: restart the NVIDIA driver, or use --device cpu."
        ) from None
    if answer.returncode != 0:
        return ()
    return tuple(_card(i, line) for i, line in enumerate(answer.stdout.strip().splitlines()))


def _card(index: int, line: str) -> DeviceFacts:
    """One line of the driver's answer: name, MiB, compute capability. Cards that share the RAM say [N/A] for memory."""
    label, mebibytes, capability = (part.strip() for part in line.rsplit(",", 2))
    major, _, minor = capability.partition(".")
    ram = psutil.virtual_memory().total
    vram = int(mebibytes) * 2**20 if mebibytes.isdigit() else ram
    dtype = "bfloat16" if (int(major), int(minor or 0)) >= BFLOAT16_FROM else "float16"
    return DeviceFacts(f"cuda:{index}", label, vram, ram, dtype)


def _cpu() -> DeviceFacts:
    ram = psutil.virtual_memory().total
    cores = psutil.cpu_count() or 1
    return DeviceFacts("cpu", f"CPU, {cores} cores", 0, ram, cpu_dtype(), cores)


@lru_cache(maxsize=1)
def cpu_dtype() -> str:
    """float32, or bfloat16 where the processor multiplies it natively: elsewhere bfloat16 products crawl."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"
