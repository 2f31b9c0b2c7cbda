"""Tokenizer and text encoder: every token's output has to tell which motion the whole sentence asks for.

Goes out: a tokenizer folder and `text.pt`. The encoder is frozen afterwards; the experts read its token outputs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from training import architecture, wording
from training.state import Trainer

VOCABULARY = 2048
CORPUS = 20_000
BATCH, STEPS, RATE = 64, 2500, 2e-3


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE: the corpus's words are single tokens, anything else falls back to bytes."""
    rng = np.random.default_rng(1)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((wording.random_request(rng)[0] for _ in range(CORPUS)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=architecture.TEXT_TOKENS,
    )


class Reader(torch.nn.Module):
    """The encoder with a linear head on each token; the head is thrown away after training."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = UMT5EncoderModel(UMT5Config(vocab_size=vocabulary, **architecture.TEXT_ENCODER))
        self.head = torch.nn.Linear(architecture.TEXT_DIM, len(wording.MOTIONS))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits (batch, length, motions)."""
        return torch.as_tensor(self.head(self.encoder(tokens, mask).last_hidden_state))


def train(work: Path) -> tuple[PreTrainedTokenizerFast, UMT5EncoderModel]:
    """Tokenizer and encoder, resumed where training stopped; prints the accuracy on held-out phrases."""
    folder = work / "tokenizer"
    if not folder.exists():
        make_tokenizer().save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    torch.manual_seed(2)
    reader = Reader(len(tokenizer))
    trainer = Trainer(reader, work, "text", STEPS, RATE, decay=0.99)

    def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(10_000 + step)
        pairs = [wording.random_request(rng) for _ in range(BATCH)]
        tokens = tokenizer([prompt for prompt, _ in pairs], padding=True, return_tensors="pt")
        logits = reader(tokens.input_ids, tokens.attention_mask)
        wanted = torch.tensor([wording.MOTIONS.index(motion) for _, motion in pairs])
        every = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted[:, None].expand(-1, logits.shape[1]), reduction="none"
        )
        mask = tokens.attention_mask
        right = (logits[torch.arange(BATCH), mask.sum(1) - 1].argmax(-1) == wanted).float().mean()
        return (every * mask).sum() / mask.sum(), {"accuracy": float(right)}

    trainer.run(loss_of)
    reader.load_state_dict(trainer.average)
    print("held-out accuracy", held_out_accuracy(reader, tokenizer))
    return tokenizer, reader.encoder


@torch.no_grad()
def held_out_accuracy(reader: Reader, tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of held-out wordings whose motion the encoder's last token tells."""
    right = 0
    requests = wording.held_out_requests()
    for prompt, motion in requests:
        tokens = tokenizer([prompt], return_tensors="pt")
        logits = reader(tokens.input_ids, tokens.attention_mask)[0].mean(0)
        right += wording.MOTIONS[int(logits.argmax())] == motion
    return right / len(requests)
