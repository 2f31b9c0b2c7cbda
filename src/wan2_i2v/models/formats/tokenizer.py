"""The tokenizer that a ComfyUI text-encoder file carries: the tensor `spiece_model` → a transformers tokenizer.

ComfyUI stores the SentencePiece model of google/umt5-xxl as a uint8 tensor beside the weights. The tokenizer here asks
SentencePiece itself for the pieces, so its ids equal the original's; transformers adds padding, truncation and the
final `</s>`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.files import open_reader
from wan2_i2v.models.formats.headers import read_header


class Umt5Tokenizer(SentencePieceBackend):  # type: ignore[misc]
    """UMT5's tokenizer over a SentencePiece model: pieces, then `</s>`; no token in front."""

    vocab_files_names = {"vocab_file": "spiece.model"}  # noqa: RUF012  transformers' own attribute
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        ends = [self.eos_token_id]
        return token_ids_0 + ends + ([] if token_ids_1 is None else token_ids_1 + ends)


def stored_tokenizer(path: Path) -> Umt5Tokenizer:
    """The tokenizer from inside a text-encoder or all-in-one file.

    Raises CheckpointError when the file carries none, or a damaged one.
    """
    header = read_header(path)
    name = next((name for name in header.tensors if name.split(".")[-1] == "spiece_model"), None)
    if name is None:
        raise CheckpointError(
            f"{path} carries no tokenizer. Use ComfyUI's umt5_xxl_fp8_e4m3fn_scaled.safetensors, which does, or put "
            "the tokenizer folder of Wan-AI/Wan2.2-I2V-A14B-Diffusers beside the weights."
        )
    reader = open_reader(header)
    content = bytes(reader.read(name).numpy())
    reader.close()
    return tokenizer_from_bytes(content, path)


def tokenizer_from_bytes(content: bytes, origin: Path) -> Umt5Tokenizer:
    """A tokenizer from a serialised SentencePiece model; special tokens are those of the model's own ids.

    Raises CheckpointError naming `origin` when the bytes are no SentencePiece model.
    """
    try:
        model: Any = SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise CheckpointError(f"the tokenizer stored in {origin} is damaged ({error}). Download it again.") from error
    special = {"pad_token": model.pad_id(), "eos_token": model.eos_id(), "unk_token": model.unk_id()}
    if min(special.values()) < 0:
        raise CheckpointError(f"the tokenizer stored in {origin} lacks {special}: it is not UMT5's. Download it again.")
    with tempfile.TemporaryDirectory() as folder:
        # The library reads a SentencePiece model from a path only; the model is in memory afterwards.
        file = Path(folder) / "spiece.model"
        file.write_bytes(content)
        return Umt5Tokenizer(
            vocab_file=str(file), **{role: model.id_to_piece(index) for role, index in special.items()}
        )
