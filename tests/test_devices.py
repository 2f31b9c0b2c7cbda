"""Devices, found through a stand-in for the driver's tool: a real program on PATH that answers what it is told."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from wan2_i2v import devices
from wan2_i2v.errors import DeviceError


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Install an `nvidia-smi` with this body as the only program on PATH besides the shell's own commands."""
    devices.cuda_cards.cache_clear()

    def install(body: str) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    yield install
    devices.cuda_cards.cache_clear()


TWO_CARDS = "echo 'NVIDIA GeForce RTX 3090, 24576, 8.6'; echo 'Tesla T4, 15360, 7.5'"


def test_cards_in_the_drivers_order(driver):
    driver(TWO_CARDS)
    first, second = devices.cuda_cards()
    assert (first.name, first.label, first.vram_bytes, first.dtype) == (
        "cuda:0", "NVIDIA GeForce RTX 3090", 24 * 2**30, "bfloat16",
    )  # fmt: skip
    assert (second.name, second.dtype) == ("cuda:1", "float16")
    assert first.is_cuda and first.ram_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_detect(driver, wanted, name):
    driver(TWO_CARDS)
    assert devices.detect(wanted).name == name


def test_a_card_that_is_not_there(driver):
    driver(TWO_CARDS)
    with pytest.raises(DeviceError, match=r"cuda:2.*cuda:0 \(NVIDIA GeForce RTX 3090\), cuda:1 \(Tesla T4\)"):
        devices.detect("cuda:2")


@pytest.mark.parametrize("body", ["exit 9", "exit 0", "echo 'NVIDIA-SMI has failed' >&2; exit 9"])
def test_without_a_working_driver_the_cpu(driver, body):
    driver(body)
    assert devices.detect().name == "cpu"
    with pytest.raises(DeviceError, match="CUDA cards here: none"):
        devices.detect("cuda")


@pytest.mark.parametrize("wanted", ["gpu", "mps", "", "cuda:", "cuda:x", "cpu:0"])
def test_unknown_names(driver, wanted):
    driver(TWO_CARDS)
    with pytest.raises(DeviceError, match="allowed: auto, cpu, cuda, cuda:N"):
        devices.detect(wanted)


def test_a_hanging_driver_is_an_error_and_the_cpu_still_works(driver, monkeypatch):
    driver("exec sleep 30")
    monkeypatch.setattr(devices, "ANSWER_SECONDS", 0.2)
    with pytest.raises(DeviceError, match="did not answer"):
        devices.detect()
    assert devices.detect("cpu").name == "cpu"


def test_a_card_that_shares_the_ram(driver):
    driver("echo 'NVIDIA GB10, [N/A], 12.1'")
    (card,) = devices.cuda_cards()
    assert card.vram_bytes == card.ram_bytes > 0


def test_the_cpu():
    cpu = devices.detect("cpu")
    assert not cpu.is_cuda and cpu.vram_bytes == 0
    assert cpu.ram_bytes == psutil.virtual_memory().total
    native = Path("/proc/cpuinfo")
    flags = native.read_text() if native.exists() else ""
    assert (cpu.dtype == "bfloat16") == ("amx_bf16" in flags or "avx512_bf16" in flags)
