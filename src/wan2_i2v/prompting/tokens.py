"""Tokens of a text as the model's own tokenizer counts them: `counter`. A leaf; reads the tokenizer's file, no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

Count = Callable[[str], int]

SURELY_FITS = 500
"""Bytes of UTF-8 up to which no text has more than 512 tokens: at worst each byte is one, and an end is added."""


def counter(folder: Path | None) -> Count | None:
    """Counts the tokens of a text, the end token among them, as the tokenizer in a checkpoint's `folder` does.

    None where there is no tokenizer file. Texts that surely fit are not read by the tokenizer, which takes a
    second to load for the real model: they get their number of bytes, which is no less than that of their tokens.
    """
    if folder is None:
        return None
    if (folder / "tokenizer.json").is_file():
        exact = _json_counter
    elif (folder / "spiece.model").is_file():
        exact = _sentencepiece_counter
    else:
        return None
    return lambda text: size if (size := len(text.encode())) <= SURELY_FITS else exact(folder)(text)


@lru_cache(maxsize=2)
def _json_counter(folder: Path) -> Count:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids)


@lru_cache(maxsize=2)
def _sentencepiece_counter(folder: Path) -> Count:
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    return lambda text: len(pieces.encode(text)) + 1
