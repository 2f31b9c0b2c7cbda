"""What vendors say that devices can do, for estimates where nothing was measured. A leaf.

Dense bf16 (fp16 where there is none) matrix rate with float32 accumulation, as in NVIDIA's architecture whitepapers and
data sheets; the link is the theoretical rate of the card's PCIe lanes. Nothing here was measured by this project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wan2_i2v.devices import DeviceFacts

GIB = 2**30

CPU_FLOPS_PER_CORE = 48e9
"""Of one core in float32, half of what AVX2 at 3 GHz can do in theory: an assumption."""

DISK_BYTES = 2e9
"""Read per second from an SSD: an assumption."""


@dataclass(frozen=True)
class Card:
    """`tera` FLOPs per second in units of 1e12; `link` in GB/s, one way."""

    name: str
    tera: float
    link: float


CARDS = (
    Card("RTX 3060", 25, 32),
    Card("RTX 3070", 41, 32),
    Card("RTX 3080", 60, 32),
    Card("RTX 3090", 71, 32),
    Card("RTX 3090 Ti", 80, 32),
    Card("RTX 4060", 30, 16),
    Card("RTX 4060 Ti", 44, 16),
    Card("RTX 4070", 58, 32),
    Card("RTX 4070 Ti", 80, 32),
    Card("RTX 4080", 97, 32),
    Card("RTX 4090", 165, 32),
    Card("RTX 5060 Ti", 47, 32),
    Card("RTX 5070", 62, 64),
    Card("RTX 5070 Ti", 88, 64),
    Card("RTX 5080", 113, 64),
    Card("RTX 5090", 210, 64),
    Card("RTX A6000", 155, 32),
    Card("RTX 6000 Ada", 364, 32),
    Card("T4", 65, 16),
    Card("A10", 125, 32),
    Card("A40", 150, 32),
    Card("A100", 312, 32),
    Card("L4", 121, 32),
    Card("L40", 181, 32),
    Card("L40S", 362, 32),
    Card("H100", 989, 64),
    Card("H200", 989, 64),
)

TYPICAL = {
    8: "RTX 4060",
    12: "RTX 3060",
    16: "RTX 4060 Ti",
    24: "RTX 3090",
    32: "RTX 5090",
    48: "RTX A6000",
    80: "A100",
}
"""The card that stands for all of its memory in GB."""


def like(device: DeviceFacts) -> Card | None:
    """The card that a device is, by its name; else the one that stands for its memory; None for a CPU."""
    if not device.is_cuda:
        return None
    named = [card for card in CARDS if re.search(rf"\b{re.escape(card.name)}\b", device.label)]
    if named:
        return max(named, key=lambda card: len(card.name))
    size = device.vram_bytes / GIB
    closest = max((gb for gb in TYPICAL if gb <= size + 1), default=min(TYPICAL))
    return next(card for card in CARDS if card.name == TYPICAL[closest])
