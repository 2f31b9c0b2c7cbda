"""A prompt written out by a language model, where the user has one: `enhance`. Off unless asked for, and never needed.

Comes in: a prompt, perhaps its picture, and the address of any OpenAI-compatible service. Goes out: a prompt. Whatever goes
wrong, the prompt comes back as it was, with the reason. A leaf, imported by doors.
"""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from PIL import Image

from wan2_i2v.errors import Wan2I2VError, shorten
from wan2_i2v.eye.opening import flattened
from wan2_i2v.settings import Settings

TIMEOUT = httpx2.Timeout(90.0, connect=5.0)
LARGEST_ANSWER = 1 << 20
"""Bytes of an answer that are read."""
LONGEST = 4000
"""Characters of a prompt; an answer that is longer is none."""
SIDE = 768
"""Long side in pixels of the picture that is sent."""
NO_PICTURE = (400, 404, 413, 415, 422, 500, 501)
"""Answers with which services refuse pictures; they are asked again without it."""
HERE = ("localhost", "127.0.0.1", "::1")

TASK = (
    "You write prompts for an image-to-video model. Rewrite the user's prompt as one or two plain English sentences, at most "
    "80 words: who or what, one main action, which part of the body moves and how, where, in which light, and what the camera "
    "does if it was said. Keep the meaning and everything that was asked for; add no second action and nothing that is not "
    "there. Say what is seen, never what is not. No lists of keywords, no quality tags. {mouths} Answer with the prompt alone."
)
CLOSED = "Nobody speaks: describe closed lips where a face is seen, and use no words of emotion that move a face."
SPEAKING = "People may speak."
WITH_PICTURE = "The attached picture is the first frame; do not contradict it."


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible service: its base URL (`http://localhost:11434/v1`), a model of it, and its key, if any."""

    url: str
    model: str
    key: str = ""


@dataclass(frozen=True)
class Enhanced:
    """The prompt to use. `problem` says why it is the one that was given; `saw_picture`: the picture was looked at."""

    prompt: str
    problem: str = ""
    saw_picture: bool = False

    @property
    def changed(self) -> bool:
        return not self.problem


class _Refused(Exception):
    """The service did not do it; the text says why. `status` is that of its answer, 0 where there was none."""

    def __init__(self, why: str, status: int = 0) -> None:
        self.status = status
        super().__init__(why)


def configured() -> Endpoint | None:
    """The service that the settings name, None where they name none."""
    settings = Settings()
    if not settings.enhance_url or not settings.enhance_model:
        return None
    return Endpoint(settings.enhance_url, settings.enhance_model, settings.enhance_key.get_secret_value())


def enhance(prompt: str, picture: Path | None, endpoint: Endpoint | None, *, allow_speech: bool = False) -> Enhanced:
    """Ask for a better prompt; raises nothing that the service, the network or the picture could cause."""
    if endpoint is None:
        return Enhanced(prompt, "no service is set: WAN2_I2V_ENHANCE_URL and WAN2_I2V_ENHANCE_MODEL name one")
    try:
        seen = None if picture is None else _data_uri(picture)
    except Wan2I2VError as error:
        return Enhanced(prompt, str(error))
    try:
        return Enhanced(_ask(endpoint, prompt, seen, allow_speech), saw_picture=seen is not None)
    except _Refused as refusal:
        if seen is None or refusal.status not in NO_PICTURE:
            return Enhanced(prompt, str(refusal))
    try:
        return Enhanced(_ask(endpoint, prompt, None, allow_speech))
    except _Refused as refusal:
        return Enhanced(prompt, str(refusal))


def _ask(endpoint: Endpoint, prompt: str, picture: str | None, allow_speech: bool) -> str:
    """One question. Raises _Refused."""
    address = endpoint.url.rstrip("/") + "/chat/completions"
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    body = {"model": endpoint.model, "temperature": 0.4, "messages": _messages(prompt, picture, allow_speech)}
    try:
        # Proxies from the environment are for the internet, not for a service on this machine.
        trusting = urlsplit(address).hostname not in HERE
        with (
            httpx2.Client(timeout=TIMEOUT, trust_env=trusting) as http,
            http.stream("POST", address, json=body, headers=headers) as answer,
        ):
            content = _limited(answer)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
        raise _Refused(f"{endpoint.url} does not answer ({error or type(error).__name__})") from None
    if not answer.is_success:
        told = shorten(content.decode("utf-8", "replace"))
        raise _Refused(f"{endpoint.url} answered {answer.status_code}: {told}", answer.status_code)
    return _written(content, endpoint.url)


def _messages(prompt: str, picture: str | None, allow_speech: bool) -> list[dict[str, Any]]:
    task = TASK.format(mouths=SPEAKING if allow_speech else CLOSED)
    if picture is None:
        return [{"role": "system", "content": task}, {"role": "user", "content": prompt}]
    parts = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": picture}}]
    return [{"role": "system", "content": f"{task} {WITH_PICTURE}"}, {"role": "user", "content": parts}]


def _limited(answer: httpx2.Response) -> bytes:
    content = b""
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise ValueError("its answer has no end")
    return content


def _written(content: bytes, url: str) -> str:
    """The prompt in an answer, without a model's thoughts, quotes and line breaks.

    Raises _Refused where there is none.
    """
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise _Refused(
            f"the answer of {url} is no chat completion: {shorten(content.decode('utf-8', 'replace'))}"
        ) from None
    if not isinstance(text, str):
        raise _Refused(f"the answer of {url} holds no text")
    text = " ".join(re.sub(r"<think>.*?(</think>|$)", " ", text, flags=re.DOTALL).split())
    text = re.sub(r"^(\*\*)?(prompt|rewritten prompt)(\*\*)?:\s*", "", text, flags=re.IGNORECASE).strip("\"'“”`* ")
    if not 3 <= len(text) <= LONGEST:
        raise _Refused(f"the answer of {url} has {len(text)} characters, a prompt has 3 to {LONGEST}")
    return text


def _data_uri(picture: Path) -> str:
    """The picture, at most SIDE px long, as a JPEG in a data URI. Raises InvalidImage."""
    small = Image.fromarray(flattened(picture))
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
