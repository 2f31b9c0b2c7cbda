"""Plans for a ComfyUI server, made without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from wan2_i2v.backends.base import Wanted
from wan2_i2v.backends.comfyui import drafted
from wan2_i2v.pictures import read_facts
from wan2_i2v.plan import JobPlan
from wan2_i2v.request import GenerateRequest

URL = "http://127.0.0.1:1"


def picture(folder: Path) -> Path:
    path = folder / "boat.png"
    if not path.exists():
        Image.radial_gradient("L").convert("RGB").resize((96, 64)).save(path)
    return path


def request(image: Path, **fields: Any) -> GenerateRequest:
    known = {"image": str(image), "model": "a14b-fp8", "width": 96, "height": 64, "num_frames": 8, "seed": 5, "fps": 16}
    known |= {"backend": "comfyui", "comfyui_url": URL, "prompt": "A boat rocks (gently) on the waves."}
    return GenerateRequest(**(known | fields))


def plan(image: Path, *, has_nag: bool = True, **fields: Any) -> JobPlan:
    return drafted(Wanted(request(image, **fields), image, read_facts(image), seed=7), has_nag=has_nag)
