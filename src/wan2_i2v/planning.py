"""A plan with everything that only files can tell: the picture's facts and what is seen in it, the length of the texts.

Comes in: a request and where its picture is. Goes out: a `JobPlan`; nothing is written, no weights are loaded. A leaf
without torch, imported by `api` and the jobs' service.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageColor

from wan2_i2v import pictures
from wan2_i2v.advice import Sight
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import InvalidImage
from wan2_i2v.eye.findings import PictureReport
from wan2_i2v.measured import Table
from wan2_i2v.memory import NOTHING_MEASURED
from wan2_i2v.plan import ImageFacts, JobPlan, LoraPlan, plan_job
from wan2_i2v.prompting import tokens
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow

_LOOKING = threading.Lock()
"""OpenCV's nets take one picture at a time."""


def draft(
    request: GenerateRequest,
    facts: ImageFacts,
    picture: Path,
    model: ModelRow,
    device: DeviceFacts,
    seed: int,
    loras: Sequence[LoraPlan] = (),
    *,
    table: Table = NOTHING_MEASURED,
) -> JobPlan:
    """`plan_job` for the picture at `picture`, of which `facts` are known; `request.last_image` is where the last one is.

    Raises InvalidImage, and what `plan_job` raises.
    """
    with _LOOKING:
        seen = _seen(picture, facts.sha256, request.background, model.sizes)
    count = tokens.counter(None if model.files is None else model.files.tokenizer)
    last = None if request.last_image is None else _last(Path(request.last_image))
    return plan_job(request, facts, model, device, seed, loras, Sight(seen, count, last), table)


def _last(picture: Path) -> ImageFacts:
    try:
        return pictures.read_facts(picture)
    except InvalidImage as error:
        raise error.renamed("last_image") from error


@lru_cache(maxsize=64)
def _seen(picture: Path, sha256: str, background: str, sizes: tuple[tuple[int, int], ...]) -> PictureReport:
    """What is in the picture; looked at once for all the requests of one picture. `sha256` tells its versions apart."""
    from wan2_i2v.eye.picture import analyze

    red, green, blue = ImageColor.getrgb(background)[:3]
    return analyze(picture, background=(red, green, blue), sizes=sizes)
