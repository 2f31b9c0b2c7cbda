"""Kernels are what was asked for, or an error that says why not."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from plans import CPU, facts, plan, row
from wan2_i2v import acceleration
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.plan import plan_job
from wan2_i2v.request import GenerateRequest

CARD = DeviceFacts("cuda:0", "a card", 24 * 2**30, 32 * 2**30, "bfloat16")


def test_auto_is_torchs_own_everywhere():
    assert acceleration.attention("auto", CPU) == acceleration.attention("auto", CARD) == "sdpa"
    assert plan().attention == "sdpa"


@pytest.mark.parametrize("asked", ["sage", "flash"])
def test_kernels_of_cards_are_refused_on_a_cpu(asked):
    with pytest.raises(InvalidRequest, match="NVIDIA"):
        plan(attention=asked)


@pytest.mark.parametrize(("asked", "command"), [("sage", "pip install sageattention"), ("flash", "flash-attn")])
def test_a_missing_package_is_named_with_the_way_to_get_it(asked, command, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match=command):
        acceleration.attention(asked, CARD)


def test_an_installed_kernel_is_planned_and_changes_the_plan(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    plans = [
        plan_job(GenerateRequest(image="picture.png", attention=asked), facts(), row(), CARD, seed=1)
        for asked in ("sage", "sdpa")
    ]
    assert [planned.attention for planned in plans] == ["sage", "sdpa"]
    assert plans[0].fingerprint() != plans[1].fingerprint()


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InvalidRequest, match=r"C\+\+ compiler"):
        acceleration.compiling(True, CPU)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match="Triton"):
        acceleration.compiling(True, CARD)
    assert not acceleration.compiling(False, CPU)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++")
    assert plan(compile=True).compiled
