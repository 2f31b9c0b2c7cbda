"""A file → the graph that is in it: JSON as ComfyUI exports it, or a picture or video that ComfyUI saved.

Imported by `import-workflow`. ComfyUI keeps the graph under the key `prompt`: a text chunk of a PNG, a tag of an mp4.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
from PIL import Image, UnidentifiedImageError

from wan2_i2v.comfyui.graph import Graph
from wan2_i2v.errors import InvalidRequest

KEY = "prompt"
WANTED = "a workflow in API format (JSON), or a PNG or mp4 that ComfyUI saved"


def find(path: Path) -> Graph:
    """The graph in a file, its form checked.

    Raises InvalidRequest for a file without one, or with one in the editor's own format.
    """
    if not path.is_file():
        raise InvalidRequest("workflow", str(path), "a file that exists")
    text = _text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InvalidRequest("workflow", str(path), WANTED, f"It is no JSON: {error}.") from None
    return checked(content, str(path))


def checked(content: Any, where: str) -> Graph:
    """`content` when it has the form of a graph.

    Raises InvalidRequest.
    """
    if isinstance(content, dict) and isinstance(content.get(KEY), dict):
        content = content[KEY]
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        hint = "This is the editor's format. In ComfyUI choose Workflow, Export (API)."
        raise InvalidRequest("workflow", where, WANTED, hint)
    if not isinstance(content, dict) or not content or not all(map(_is_node, content.values())):
        raise InvalidRequest("workflow", where, WANTED, "Every node needs a class_type and inputs.")
    return content


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        and all(not isinstance(value, list) or len(value) == 2 for value in node["inputs"].values())
    )  # fmt: skip


def _text(path: Path) -> str:
    if path.suffix.lower() == ".json":
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRequest("workflow", str(path), WANTED, f"It is no UTF-8: {error.reason}.") from None
    try:
        with Image.open(path) as picture:
            text = picture.info.get(KEY)
    except UnidentifiedImageError:
        text = _tag(path)
    if not isinstance(text, str) or not text:
        hint = "The file carries none; what this program recorded in a clip of its own is shown by wan2-i2v inspect."
        raise InvalidRequest("workflow", str(path), WANTED, hint)
    return text


def _tag(path: Path) -> str:
    try:
        with av.open(path) as container:
            return container.metadata.get(KEY) or container.metadata.get(KEY.upper(), "")
    except av.FFmpegError as error:
        raise InvalidRequest("workflow", str(path), WANTED, f"It cannot be read: {error.strerror}.") from None
