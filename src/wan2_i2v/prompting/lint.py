"""What is wrong with a prompt, where, and what to write instead: `lint`. Imported by doors and the plan.

The rules are the knowledge base's five of structure (one main action, body parts and movements named, sentences instead
of keywords, light and atmosphere, mouth prevention) and what goes wrong in practice. A finding is a hint, never a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from wan2_i2v.presets import MOUTH_NEGATIVE
from wan2_i2v.prompting import words

MAX_TOKENS = 512
"""What the text encoder reads; the rest is cut off."""

Rule = Literal[
    "one-action",
    "body-part",
    "sentences",
    "lighting",
    "mouth-prevention",
    "double-negation",
    "negation",
    "emotion",
    "contradiction",
    "filler",
    "too-long",
    "not-evaluated",
    "empty",
]
Field = Literal["prompt", "negative_prompt"]


@dataclass(frozen=True)
class Finding:
    """One problem: `span` are the first character and the one after the last, in `field`'s text."""

    rule: Rule
    field: Field
    span: tuple[int, int]
    message: str
    instead: str


@dataclass(frozen=True)
class _Texts:
    prompt: str
    negative: str
    allow_speech: bool
    evaluated: bool


def lint(
    prompt: str,
    negative_prompt: str = "",
    *,
    allow_speech: bool = False,
    negative_evaluated: bool = True,
    count: Callable[[str], int] | None = None,
) -> tuple[Finding, ...]:
    """All findings, in order of rule. `count` counts tokens with the model's own tokenizer; None leaves length out.

    `negative_evaluated` is False when guidance is off (CFG 1 and no other use of the negative prompt).
    """
    texts = _Texts(prompt, negative_prompt, allow_speech, negative_evaluated)
    if not prompt.strip():
        return (Finding("empty", "prompt", (0, len(prompt)), "the prompt is empty", "Say who or what moves, and how."),)
    found = [finding for rule in RULES for finding in rule(texts)]
    if count is not None:
        found += _too_long(texts, count)
    return tuple(found)


def _one_action(texts: _Texts) -> Iterator[Finding]:
    """More than two different actions: a clip of a few seconds shows one well, and two that belong together."""
    seen: dict[str, re.Match[str]] = {}
    for verb, pattern in _ACTIONS:
        match = pattern.search(texts.prompt)
        if match and not _negated(texts.prompt, match.start()):
            seen.setdefault(verb.strip(), match)
    ordered = sorted(seen.items(), key=lambda item: item[1].start())
    if len(ordered) > 2:
        names = ", ".join(match.group(0).lower() for _, match in ordered)
        instead = f"Keep one main action ({ordered[0][1].group(0).lower()}) and make the others clips of their own."
        span = (ordered[2][1].start(), ordered[-1][1].end())
        yield Finding("one-action", "prompt", span, f"{len(ordered)} actions in one clip: {names}", instead)


def _forms(verb: str) -> str:
    if verb in words.IRREGULAR:
        return words.IRREGULAR[verb]
    stem = verb[:-1] if verb.endswith("e") else verb
    return rf"{verb}s?|{stem}es|{stem}ing|{stem}ed"


_ACTIONS = [
    (verb, re.compile(rf"\b(?:{_forms(verb)})\b", re.IGNORECASE))
    for verb in dict.fromkeys((*words.ACTIONS, *(v.strip() for v in words.IRREGULAR)))
]


def _body_part(texts: _Texts) -> Iterator[Finding]:
    """Somebody moves, but neither a part of the body nor a concrete action says how."""
    subject = _find(words.SUBJECT, texts.prompt)
    vague = _find(words.MOVING_BODY, texts.prompt)
    concrete = any(pattern.search(texts.prompt) for _, pattern in _ACTIONS)
    if subject and vague and not concrete and not _find(words.BODY, texts.prompt):
        yield Finding(
            "body-part",
            "prompt",
            vague.span(),
            f"{vague.group(0)!r} does not say what moves",
            f"Name the part and the movement, as in: the {subject.group(0).lower()} raises the right hand slowly.",
        )


def _sentences(texts: _Texts) -> Iterator[Finding]:
    """Keywords between commas. The text encoder is a language model and was trained on descriptions."""
    parts = [part.strip() for part in re.split(r"[,;|]", texts.prompt) if part.strip()]
    short = sum(len(part.split()) <= 4 for part in parts)
    if len(parts) >= 4 and short >= 0.6 * len(parts):
        yield Finding(
            "sentences",
            "prompt",
            (0, len(texts.prompt)),
            f"{len(parts)} keywords between commas",
            "Write one or two sentences: who, what action, which part of the body, where, in which light.",
        )
    counts: dict[str, list[re.Match[str]]] = {}
    for match in re.finditer(r"[a-z']{4,}", texts.prompt, re.IGNORECASE):
        counts.setdefault(match.group(0).lower(), []).append(match)
    for word, matches in counts.items():
        if word not in words.STOP and len(matches) >= 4 and len(matches) > len(texts.prompt.split()) / 12:
            message = f"{word!r} is said {len(matches)} times"
            yield Finding(
                "sentences", "prompt", matches[3].span(), message, "Say it once; repeating does not strengthen it."
            )


def _lighting(texts: _Texts) -> Iterator[Finding]:
    if not _find(words.SETTING, texts.prompt):
        yield Finding(
            "lighting",
            "prompt",
            (len(texts.prompt), len(texts.prompt)),
            "light and atmosphere are not described",
            "Add them, as in: in soft evening light.",
        )


def _mouth(texts: _Texts) -> Iterator[Finding]:
    """A prompt about people without mouth prevention; nothing when speech is wanted."""
    if texts.allow_speech or not _find(words.SUBJECT, texts.prompt):
        return
    if not _find(words.MOUTH, texts.negative):
        end = len(texts.negative)
        message = "nothing in the negative prompt prevents mouth movement"
        yield Finding("mouth-prevention", "negative_prompt", (end, end), message, f"Add: {MOUTH_NEGATIVE}")
    spoken = _find(words.SPEECH, texts.prompt)
    if spoken and not _negated(texts.prompt, spoken.start()):
        message = f"{spoken.group(0)!r} asks for mouth movement"
        yield Finding("mouth-prevention", "prompt", spoken.span(), message, "Leave it out, or allow speech.")


def _double_negation(texts: _Texts) -> Iterator[Finding]:
    """`no fireworks` in the negative prompt asks for them twice over: the negative lists what shall not be seen."""
    for match in re.finditer(
        r"\b(?:no|without|not|never|avoid|don't)\s+((?:[\w-]+\s?){1,3})", texts.negative, re.IGNORECASE
    ):
        thing = match.group(1).strip()
        yield Finding(
            "double-negation",
            "negative_prompt",
            match.span(),
            f"{match.group(0).strip()!r} in a negative prompt is a double negation",
            f"Take it out of the negative; if {thing} is wanted, say so in the prompt, else write just {thing!r}.",
        )


def _negation(texts: _Texts) -> Iterator[Finding]:
    """The encoder reads `no wind` as something about wind. `without` and `no` before movement are common and harmless."""
    pattern = r"\b(?:no|without any|without|don't|do not|never|does not|doesn't)\s+(?!movement|motion|one\b)([\w-]+(?:\s[\w-]+)?)"
    for match in re.finditer(pattern, texts.prompt, re.IGNORECASE):
        message = f"{match.group(0)!r}: what is named tends to appear"
        instead = f"Describe what is there instead, and put {match.group(1)!r} into the negative prompt."
        yield Finding("negation", "prompt", match.span(), message, instead)


def _emotion(texts: _Texts) -> Iterator[Finding]:
    if texts.allow_speech:
        return
    for match in re.finditer(r"[a-z]+", texts.prompt, re.IGNORECASE):
        instead = words.EMOTIONS.get(match.group(0).lower())
        if instead is not None and not _negated(texts.prompt, match.start()):
            message = f"{match.group(0)!r} makes the model move the face"
            yield Finding("emotion", "prompt", match.span(), message, f"Write for example: {instead}.")


def _contradiction(texts: _Texts) -> Iterator[Finding]:
    """A phrase of the negative prompt that the prompt asks for."""
    for match in re.finditer(r"[^,;.\n]+", texts.negative):
        phrase = match.group(0).strip()
        if re.match(words.ABSENCE, phrase, re.IGNORECASE):
            continue
        terms = [word for word in re.findall(r"[a-z]+", phrase.lower()) if word not in words.STOP]
        if not terms or len(terms) > 3:
            continue
        pattern = r"\W+".join(rf"{re.escape(_stem(term))}\w{{0,4}}" for term in terms)
        wanted = _find(pattern, texts.prompt)
        if wanted and not _negated(texts.prompt, wanted.start()):
            start = match.start() + match.group(0).index(phrase)
            message = f"{phrase!r} is in the negative prompt, and the prompt asks for {wanted.group(0)!r}"
            yield Finding(
                "contradiction", "negative_prompt", (start, start + len(phrase)), message, "Keep one of the two."
            )


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _filler(texts: _Texts) -> Iterator[Finding]:
    for filler in words.FILLERS:
        match = _find(re.escape(filler), texts.prompt)
        if match:
            message = f"{match.group(0)!r} says nothing about what happens"
            yield Finding("filler", "prompt", match.span(), message, "Leave it out, or describe what you want to see.")


def _not_evaluated(texts: _Texts) -> Iterator[Finding]:
    if texts.negative.strip() and not texts.evaluated:
        message = "the negative prompt will not be evaluated: guidance is off (CFG 1)"
        instead = "Raise guidance_scale_high above 1, or say it in the prompt (closed lips, calm face)."
        yield Finding("not-evaluated", "negative_prompt", (0, len(texts.negative)), message, instead)


def _too_long(texts: _Texts, count: Callable[[str], int]) -> Iterator[Finding]:
    fields: tuple[tuple[Field, str], ...] = (("prompt", texts.prompt), ("negative_prompt", texts.negative))
    for field, text in fields:
        tokens = count(text) if text else 0
        if tokens > MAX_TOKENS:
            read = _fitting(text, count)
            message = f"{tokens} tokens; the model reads {MAX_TOKENS} and ignores the rest"
            yield Finding(
                "too-long", field, (read, len(text)), message, f"Shorten it; it is read up to {text[:read][-30:]!r}."
            )


def _fitting(text: str, count: Callable[[str], int]) -> int:
    """The number of characters whose tokens fit, by bisection."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= MAX_TOKENS else (low, middle - 1)
    return low


def _find(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE)


def _negated(text: str, start: int) -> bool:
    """Whether a negation stands within the three words before."""
    before = " ".join(text[:start].split()[-3:])
    return re.search(words.ABSENCE, before, re.IGNORECASE) is not None


RULES: tuple[Callable[[_Texts], Iterator[Finding]], ...] = (
    _one_action,
    _body_part,
    _sentences,
    _lighting,
    _mouth,
    _double_negation,
    _negation,
    _emotion,
    _contradiction,
    _filler,
    _not_evaluated,
)
