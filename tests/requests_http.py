"""A request of the HTTP tests, as small as can be, and pictures for it."""

from __future__ import annotations

import io

from PIL import Image

SETTINGS = {"prompt": "pan left", "num_frames": 5, "width": 48, "height": 32, "num_inference_steps": 2, "seed": 5}


def png(width: int = 48, height: int = 32) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((width, height)).save(data, "PNG")
    return data.getvalue()
