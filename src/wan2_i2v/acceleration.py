"""Which attention kernels and whether compiled code: chosen while planning, or refused with the reason. A leaf, no torch.

Comes in: what was asked and the device. Goes out: what will be used. Nothing falls back silently: a kernel that cannot be
had is an error that says how to get it.
"""

from __future__ import annotations

import importlib.util
import shutil
from typing import Literal

from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import InvalidRequest

Attention = Literal["sdpa", "sage", "flash"]
AskedAttention = Literal["auto", "sdpa", "sage", "flash"]

PACKAGES: dict[str, tuple[str, str]] = {
    "sage": ("sageattention", "pip install sageattention"),
    "flash": ("flash_attn", "pip install flash-attn"),
}
"""The module that diffusers' dispatcher takes each kernel from, and how to get it."""

COMPILERS = ("c++", "g++", "clang++", "cl")


def attention(asked: AskedAttention, device: DeviceFacts) -> Attention:
    """The kernel to use; auto is torch's own (`scaled_dot_product_attention`), which is exact everywhere.

    Raises InvalidRequest for a kernel that needs a card or a package which is not here.
    """
    if asked == "auto" or asked == "sdpa":
        return "sdpa"
    module, command = PACKAGES[asked]
    if not device.is_cuda:
        raise InvalidRequest(
            "attention", asked, f"auto or sdpa on {device.label}", f"{asked} runs on NVIDIA cards only."
        )
    if importlib.util.find_spec(module) is None:
        raise InvalidRequest("attention", asked, "a kernel that is installed; auto and sdpa are", f"Get it: {command}.")
    return asked


def compiling(asked: bool, device: DeviceFacts) -> bool:
    """Whether torch compiles the parts of a block.

    Raises InvalidRequest where it cannot: without a C++ compiler for a CPU, without Triton for a card.
    """
    if not asked:
        return False
    if device.is_cuda and importlib.util.find_spec("triton") is None:
        raise InvalidRequest("compile", True, "false without Triton", "Get it: pip install triton.")
    if not device.is_cuda and not any(shutil.which(name) for name in COMPILERS):
        hint = f"torch needs one of {', '.join(COMPILERS)} on the PATH."
        raise InvalidRequest("compile", True, "false without a C++ compiler", hint)
    return True
