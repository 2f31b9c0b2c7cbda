"""What people say when they want a motion: phrases per motion, and sentences made from them. Comes in: a generator of
random numbers; goes out: (prompt, motion). HELD_OUT phrases are for the evaluation and never trained on.
"""

from __future__ import annotations

import numpy as np

from training.phrases import DEEDS, HELD_OUT, QUALITIES, THINGS, TRAINING, UNKNOWN

MOTIONS = tuple(TRAINING)

SUBJECTS = (
    "a woman", "a man in a coat", "two children", "a cat", "an old house", "a mountain lake", "a city street at night",
    "a robot", "a bowl of fruit", "a sailing boat", "a forest path", "a dog on the grass", "the astronaut", "flowers in a vase",
    "a castle", "a coffee cup", "a soldier", "a dancer", "the girl with the hat", "a red car", "an abstract painting",
    "a rocket", "a portrait of a boy", "the market square", "a field of wheat", "a cartoon character", "a temple in China",
    "the tree", "tall grass", "a flag", "the curtain", "a lantern", "the reeds by the lake",
)  # fmt: skip
SETTINGS = (
    "in soft natural light", "at sunset", "in the rain", "in bright sunlight", "under a cloudy sky", "in a studio",
    "with warm colours", "in the snow", "at night under street lamps", "in morning fog", "on a beach", "in an old film look",
    "highly detailed", "cinematic lighting", "peaceful mood", "dramatic atmosphere", "4k, sharp focus", "watercolour style",
)  # fmt: skip
OPENERS = ("", "", "", "A video of ", "A clip showing ", "We see ", "Scene: ", "In this shot, ", "Cinematic shot of ")

MANNERS = (
    "smooth",
    "slow",
    "steady",
    "gentle",
    "soft",
    "cinematic",
    "elegant",
    "quiet",
    "very slow",
    "simple",
    "a smooth",
    "a slow",
)
ADVERBS = ("smoothly", "slowly", "steadily", "gently", "softly", "gradually", "hard", "a little", "evenly", "over time")
"""Words before and after a motion's phrase that say how, not what."""

ASIDES = ("{m}, {u}", "{u}, {m}", "{M}. {U}.", "{U}. {M}.", "{u} while {m}", "{m} and {u}", "{U} {m}")
"""A motion's phrase beside a clause that means nothing to mini, u (U capitalised)."""
BESIDE, INVENTED, MEANINGLESS = 0.35, 0.3, 0.7
"""Share of requests with such a clause; of clauses in words that are none; of gentle requests that are nothing else."""

NEVER = tuple(phrase for held_out in HELD_OUT.values() for phrase in held_out)

SHAPES = (
    "{m}",
    "{m}.",
    "{s} {m}",
    "{s}, {m}",
    "{o}{s}. {M}.",
    "{o}{s} {e}, {m}",
    "{M}, {s} {e}.",
    "{e}, {m}",
    "{o}{s} {e}. {M}, {e2}.",
)
"""m the motion's phrase (M capitalised), s a subject, e a setting, o an opener."""

STILL_WORDS = ("{s}", "{s} {e}", "{o}{s} {e}.", "{e}", "{s}, {e}, {e2}", "A beautiful scene with dynamic movement")
"""Sentences that ask for no motion in particular; they get the gentle one."""


def _invented(rng: np.random.Generator) -> str:
    """One to four words of letters at random, most of them speakable."""
    letters, words = ("bcdfghjklmnprstvwz", "aeiou"), []
    for _ in range(rng.integers(1, 5)):
        length, first = int(rng.integers(2, 9)), int(rng.integers(2))
        words.append(
            "".join(
                letters[(first + place) % 2][rng.integers(len(letters[(first + place) % 2]))] for place in range(length)
            )
        )
    return " ".join(words)


def meaningless(rng: np.random.Generator) -> str:
    """A clause that asks for no motion that there is."""
    if rng.random() < INVENTED:
        return _invented(rng)
    pick = lambda items: items[rng.integers(len(items))]  # noqa: E731
    shape = pick(
        (
            "{s} {d}",
            "{s} {d} {t}",
            "{t}",
            "{q}",
            "{t}, {q}",
            "{s}, {q}",
            "{s} with {t}",
            "{d}",
            "{t} and {t2}",
            "{s} {e}, {q}",
        )
    )
    return str(
        shape.format(
            s=pick(SUBJECTS), d=pick(DEEDS), t=pick(THINGS), t2=pick(THINGS), q=pick(QUALITIES), e=pick(SETTINGS)
        )
    )


def sentence(motion: str, rng: np.random.Generator, phrases: dict[str, tuple[str, ...]] = TRAINING) -> str:
    """A sentence that asks for `motion`, in one of its phrases."""
    known = phrases[motion]
    if motion == "gentle" and rng.random() < MEANINGLESS:
        return meaningless(rng)
    if motion == "gentle" and rng.random() < 0.6:
        shape, phrase = STILL_WORDS[rng.integers(len(STILL_WORDS))], ""
    else:
        shape, phrase = SHAPES[rng.integers(len(SHAPES))], known[rng.integers(len(known))]
    pick = lambda items: items[rng.integers(len(items))]  # noqa: E731
    manner = phrase
    if phrase.startswith("the camera ") and rng.random() < 0.4:
        manner = f"the camera {pick(ADVERBS[2:6])} {phrase.removeprefix('the camera ')}"
    elif phrase and motion != "static" and rng.random() < 0.4:
        manner = f"{pick(MANNERS)} {phrase}" if rng.random() < 0.5 else f"{phrase} {pick(ADVERBS)}"
    phrase = phrase if phrases is TRAINING and any(never in manner for never in NEVER) else manner
    if phrase and rng.random() < BESIDE:
        shape = ASIDES[rng.integers(len(ASIDES))]
    beside = meaningless(rng)
    text = shape.format(
        u=beside,
        U=beside[:1].upper() + beside[1:],
        m=phrase,
        M=phrase[:1].upper() + phrase[1:],
        s=pick(SUBJECTS),
        e=pick(SETTINGS),
        e2=pick(SETTINGS),
        o=pick(OPENERS),
    )
    return text.lower() if rng.random() < 0.15 else text


def random_request(rng: np.random.Generator) -> tuple[str, str]:
    """A (prompt, motion) pair; motions are evenly likely but for the gentle one, as what means nothing is endless.

    One in 50 prompts is empty, which means gentle.
    """
    if rng.random() < 0.02:
        return "", "gentle"
    if rng.random() < 0.12:
        return meaningless(rng), "gentle"
    motion = MOTIONS[rng.integers(len(MOTIONS))]
    return sentence(motion, rng), motion


def held_out_requests() -> list[tuple[str, str]]:
    """Every held-out phrase alone and in a sentence, with its motion."""
    rng = np.random.default_rng(99)
    plain = [(phrase, motion) for motion, phrases in HELD_OUT.items() for phrase in phrases]
    unknown = [(phrase, "gentle") for phrase in UNKNOWN]
    return plain + unknown + [(sentence(motion, rng, HELD_OUT), motion) for motion in HELD_OUT for _ in range(4)]
