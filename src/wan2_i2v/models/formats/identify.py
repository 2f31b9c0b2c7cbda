"""What a weight file is, from its names and shapes: path → `Identity`. Reads headers only; no torch.

Imported by the catalog, by the doors (`models` commands) and by `opening`. A wrong file is named together with what to
get instead; nothing is guessed from a file's name except the hint `noise`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.configs import CONFIG
from wan2_i2v.models.formats.headers import Header, fingerprint, read_header
from wan2_i2v.models.formats.naming import part_shapes
from wan2_i2v.models.formats.signatures import EXPERTS, KINDS, LORA, UMT5, VAE, Kind, Shapes, side

ROLES = {
    "transformer": "a Wan2.2 I2V A14B expert",
    "text_encoder": "a UMT5 text encoder",
    "vae": "the Wan 2.1 VAE",
    "lora": "a LoRA",
}

WANTED = {"transformer": EXPERTS, "text_encoder": UMT5, "vae": VAE, "lora": "a Wan2.2 I2V LoRA"}

_PREFIXES = {
    "transformer": r"(model\.diffusion_model\.|diffusion_model\.)",
    "text_encoder": (
        r"((?:text_encoders|cond_stage_model)\.(?:[^.]+\.)?(?:transformer\.)?)"
        r"(?=shared\.|encoder\.|blocks\.|token_embedding\.)"
    ),
    "vae": r"(vae\.|first_stage_model\.)",
}


@dataclass(frozen=True)
class Identity:
    """One weight file or folder.

    For each part that this package can use: `prefixes` its names' prefix, `configs` the arguments of its class as its
    shapes tell them, `weights` the number of its weights. `parameters` and `nbytes` are of everything stored.
    `tokenizer` tells whether the file carries a SentencePiece model.
    """

    path: Path
    container: str
    slug: str
    title: str
    prefixes: Mapping[str, str]
    precision: str
    dims: Mapping[str, int]
    parameters: int
    nbytes: int
    configs: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, int]
    instead: str
    tokenizer: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(sorted(self.prefixes))

    @property
    def usable(self) -> bool:
        return bool(self.prefixes)

    @property
    def noise(self) -> str | None:
        """`high` or `low` where the file's own name says so, else None."""
        return noise_hint(self.path)

    @property
    def named(self) -> str:
        """The title with the dimensions that tell its kind."""
        dims = ", ".join(f"{name} {value}" for name, value in self.dims.items())
        return f"{self.title} ({dims})" if dims else self.title

    def describe(self) -> str:
        """One line for people."""
        size = (
            f"{self.parameters / 1e9:.2f} billion" if self.parameters >= 1e8 else f"{self.parameters / 1e6:.2f} million"
        )
        text = f"{self.named}, {self.precision}, {size} parameters"
        return text if self.usable else f"{text}. Get instead: {self.instead}"


def identify(path: Path) -> Identity:
    """What the file or folder of shards at `path` is.

    Raises CheckpointError when it is missing, damaged or no weight file.
    """
    return identify_header(read_header(path))


def identify_header(header: Header) -> Identity:
    """What a header already read belongs to."""
    whole = {name: info.shape for name, info in header.tensors.items()}
    if LORA.matches(whole):
        return _identity(header, LORA, LORA.title, whole, {"lora": ""}, "")
    split = {part: _below(whole, pattern) for part, pattern in _PREFIXES.items()}
    found = {part: (prefix, kind) for part, (prefix, shapes) in split.items() if prefix and (kind := _kind(shapes))}
    bundled = {part: prefix for part, (prefix, kind) in found.items() if kind.part == part}
    if "transformer" in found:
        expert = found["transformer"][1]
        shapes, prefix = split["transformer"][1], found["transformer"][0]
        complete = len(bundled) == 3
        title = f"an all-in-one checkpoint of {expert.title}" if complete else expert.title
        return _identity(header, expert, title, shapes, bundled if "transformer" in bundled else {}, prefix)
    if bundled:
        part = next(iter(bundled))
        return _identity(header, found[part][1], found[part][1].title, split[part][1], bundled, bundled[part])
    kind = _kind(whole) or _foreign(header)
    return _identity(header, kind, kind.title, whole, {kind.part: ""} if kind.part else {}, "")


def expect(header: Header, part: str) -> Identity:
    """The identity of a file that is to serve as `part`.

    Raises CheckpointError naming what it is and what to get instead.
    """
    identity = identify_header(header)
    if part in identity.prefixes:
        return identity
    belongs = " Or give this file as a LoRA, beside a model." if identity.slug == LORA.slug else ""
    raise CheckpointError(f"{header.path} is {identity.named}, not {ROLES[part]}. Get {WANTED[part]}.{belongs}")


def check_pair(high: Path, low: Path) -> None:
    """Refuse two experts that are one and the same, or whose names say that they are swapped.

    Raises CheckpointError.
    """
    if high.resolve() == low.resolve() or fingerprint(read_header(high)) == fingerprint(read_header(low)):
        raise CheckpointError(
            f"{high} and {low} are the same weights: one expert was given twice. Give the high-noise file as high "
            "and the low-noise file as low."
        )
    if (noise_hint(high), noise_hint(low)) == ("low", "high"):
        raise CheckpointError(f"the experts are swapped: {high.name} was given as high and {low.name} as low.")


def noise_hint(path: Path) -> str | None:
    """Which expert a file's or folder's name speaks of: `high`, `low` or None."""
    if path.name in ("transformer", "transformer_2"):
        return "high" if path.name == "transformer" else "low"
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path.stem).lower()))
    high, low = bool(words & {"high", "highnoise"}), bool(words & {"low", "lownoise"})
    return None if high == low else "high" if high else "low"


def _below(shapes: Shapes, pattern: str) -> tuple[str, Shapes]:
    """The prefix that matches and the names below it, freed of it."""
    found = Counter(match[1] for name in shapes if (match := re.match(pattern, name)))
    if not found:
        return "", {}
    prefix = found.most_common(1)[0][0]
    return prefix, {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _kind(shapes: Shapes) -> Kind | None:
    return next((kind for kind in KINDS if kind.matches(shapes)), None)


def _foreign(header: Header) -> Kind:
    architecture = header.metadata.get("architecture", "") if header.container == "gguf" else ""
    title = f"a GGUF file of the architecture {architecture!r}" if architecture else "a model that is not known here"
    return Kind("unknown", title, lambda shapes: True, instead=EXPERTS)


def _identity(
    header: Header, kind: Kind, title: str, shapes: Shapes, prefixes: Mapping[str, str], prefix: str
) -> Identity:
    parts = {part: part_shapes(header, part, start) for part, start in prefixes.items() if part in CONFIG}
    return Identity(
        path=header.path,
        container=header.container,
        slug=kind.slug,
        title=title,
        prefixes=prefixes,
        precision=_precision(header, prefix),
        dims={name: value for name, value in _dims(kind, shapes).items() if value},
        parameters=header.parameters,
        nbytes=sum(info.nbytes for info in header.tensors.values()),
        configs={part: CONFIG[part](shapes) for part, shapes in parts.items()},
        weights={part: sum(math.prod(shape) for shape in shapes.values()) for part, shapes in parts.items()},
        instead=kind.instead,
        tokenizer=any(name.split(".")[-1] == "spiece_model" for name in header.tensors),
    )


def _dims(kind: Kind, shapes: Shapes) -> dict[str, int]:
    if kind.slug.startswith("wan") and "vae" not in kind.slug:
        numbers = {int(match[1]) for name in shapes if (match := re.match(r"blocks\.(\d+)\.", name))}
        return {
            "width": side(shapes, "patch_embedding.weight", 0),
            "layers": len(numbers),
            "input channels": side(shapes, "patch_embedding.weight", 1),
        }
    if kind.slug in ("umt5", "t5"):
        table = "token_embedding.weight" if "token_embedding.weight" in shapes else "shared.weight"
        return {"vocabulary": side(shapes, table, 0), "width": side(shapes, table, 1)}
    return {}


def _precision(header: Header, prefix: str) -> str:
    """The dtypes by share of bytes, the largest first; `scaled` where fp8 weights come with scales."""
    infos: Iterable[tuple[str, str, int]] = (
        (name, info.dtype, info.nbytes) for name, info in header.tensors.items() if name.startswith(prefix)
    )
    sizes: Counter[str] = Counter()
    scaled = False
    for name, dtype, size in infos:
        scaled |= name.endswith((".scale_weight", ".weight_scale"))
        sizes[dtype] += size
    common = [dtype for dtype, size in sizes.most_common(3) if size > 0.005 * sizes.total()]
    names = [f"{dtype} scaled" if scaled and dtype.startswith("F8") else dtype for dtype in common]
    return " + ".join(names)
