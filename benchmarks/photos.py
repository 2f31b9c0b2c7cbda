"""Photos for the benchmarks, from packages that are installed or unpacked beside them; none is part of this repository.

scikit-image, scikit-learn and matplotlib ship pictures inside their wheels; `--faces` names the unpacked sdist of
face_recognition 1.3.0 (`pip download --no-deps --no-binary :all: face_recognition`), whose tests have portraits.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from wan2_i2v.eye.faces import Picture

SCENES = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/chelsea.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("skimage", "data/ihc.png"),
)
PORTRAITS = (("skimage", "data/astronaut.png"), ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))
EXTRA = ("biden.jpg", "obama.jpg", "obama3.jpg", "32bit.png")


def load(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def scenes() -> dict[str, Picture]:
    """Ten colour pictures of ten kinds."""
    return {Path(name).stem: load(Path(str(files(package) / name))) for package, name in SCENES}


def portraits(folder: Path | None) -> dict[str, Picture]:
    """Photos of one face each; with `folder` those of face_recognition too."""
    found = {Path(name).stem: load(Path(str(files(package) / name))) for package, name in PORTRAITS}
    if folder is not None:
        found |= {Path(name).stem: load(folder / "tests" / "test_images" / name) for name in EXTRA}
    return found
