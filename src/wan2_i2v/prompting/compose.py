"""A prompt from its parts, and the negative prompt with mouth prevention. Imported by doors."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wan2_i2v.errors import InvalidRequest
from wan2_i2v.presets import MOUTH_NEGATIVE


@dataclass(frozen=True)
class Parts:
    """What a good prompt says; only `subject` and `action` have to be there.

    `action` goes on after the subject (`turns slowly`), `body` says with what (`raising the right hand`), `place` where
    (`on the ice`), `light` in which light (`soft evening light`), `camera` what the camera does (`holds still`).
    """

    subject: str
    action: str
    body: str = ""
    place: str = ""
    light: str = ""
    camera: str = ""


def compose(parts: Parts) -> str:
    """One or two sentences.

    Raises InvalidRequest without a subject or an action.
    """
    for name, value in (("subject", parts.subject), ("action", parts.action)):
        if not value.strip():
            raise InvalidRequest(name, value, "a few words; a prompt needs a subject and one main action")
    subject, action, body, place, light, camera = (
        _clean(text) for text in (parts.subject, parts.action, parts.body, parts.place, parts.light, parts.camera)
    )
    sentence = f"{subject} {action}"
    if place:
        sentence += f" {place}" if _starts_with_preposition(place) else f" in {place}"
    if body:
        sentence += f", {body}"
    if light:
        sentence += f", {light}" if _starts_with_preposition(light) else f", in {light}"
    text = _capital(sentence) + "."
    if camera:
        start = camera if re.match(r"(the )?camera\b", camera, re.IGNORECASE) else f"the camera {camera}"
        text += f" {_capital(start)}."
    return text


def negative(text: str = "", *, allow_speech: bool = False) -> str:
    """The negative prompt with those phrases of mouth prevention that it lacks; unchanged when speech is allowed."""
    if allow_speech:
        return text
    return ", ".join(part for part in (text.strip().rstrip(","), missing(text)) if part)


def missing(text: str) -> str:
    """The phrases of mouth prevention that a negative prompt lacks, between commas."""
    have = {phrase.strip().lower() for phrase in text.split(",")}
    return ", ".join(phrase for phrase in MOUTH_NEGATIVE.split(", ") if phrase not in have)


def _clean(text: str) -> str:
    return " ".join(text.split()).strip(" .,;")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _starts_with_preposition(text: str) -> bool:
    return (
        re.match(
            r"(in|on|at|under|by|near|above|below|before|behind|inside|outside|with|over|through|against|from|lit)\b",
            text,
        )
        is not None
    )
