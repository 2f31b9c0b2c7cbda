"""Prompt → text embeddings, with one load of the text encoder for all jobs, and none for prompts that were seen before.

Comes in: the plan's prompts. Goes out: `text.safetensors` with prompt_embeds and, where CFG or NAG needs them,
negative_prompt_embeds, each (1, 512, text_dim) in the compute dtype.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Iterator
from functools import cache

import ftfy
import torch

from wan2_i2v.events import Log
from wan2_i2v.footprint import TEXT_TOKENS
from wan2_i2v.models import components, kept_texts
from wan2_i2v.plan import JobPlan
from wan2_i2v.stages import tensors
from wan2_i2v.stages.base import Context, Job, Stage, one_step, source_of


def clean(prompt: str) -> str:
    """Wan's text cleaning: repaired Unicode, HTML entities resolved, whitespace collapsed (`wan/modules/tokenizers.py`)."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()


@torch.inference_mode()
def encode_prompt(encoder: components.TextEncoder, prompt: str) -> torch.Tensor:
    """Text embeddings (1, 512, text_dim); positions after the prompt's last token are zero, as Wan was trained."""
    return padded(encode_tokens(encoder, clean(prompt)))


@torch.inference_mode()
def encode_tokens(encoder: components.TextEncoder, cleaned: str) -> torch.Tensor:
    """Embeddings (1, tokens, text_dim) of the real tokens alone: attention masks padding, so they do not depend on it."""
    tokens = encoder.tokenizer(
        [cleaned], max_length=TEXT_TOKENS, truncation=True, add_special_tokens=True, return_tensors="pt"
    ).input_ids.to(encoder.model.device)
    return torch.as_tensor(encoder.model(tokens, torch.ones_like(tokens)).last_hidden_state)


def padded(embeds: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(embeds, (0, 0, 0, TEXT_TOKENS - embeds.shape[1]))


@contextlib.contextmanager
def _encoder(plan: JobPlan) -> Iterator[Callable[[], components.TextEncoder]]:
    """The text encoder, loaded when it is first called for."""
    with contextlib.ExitStack() as loaded:
        yield cache(lambda: loaded.enter_context(components.text_encoder(source_of(plan, "text"))))


def _run(encoder: Callable[[], components.TextEncoder], job: Job, context: Context) -> None:
    source = source_of(job.plan, "text")
    identity = kept_texts.encoder_identity(source.files, source.dtype, source.device)

    def embeds_of(prompt: str) -> torch.Tensor:
        cleaned = clean(prompt)
        known = kept_texts.find(identity, cleaned)
        if known is not None:
            return padded(known)
        found = encode_tokens(encoder(), cleaned)
        try:
            kept_texts.keep(identity, cleaned, found)
        except OSError as error:
            context.emit(Log(job.plan.job_id, "warning", f"text embeddings cannot be kept for later: {error}"))
        return padded(found)

    embeds = {"prompt_embeds": embeds_of(job.plan.prompt)}
    if job.plan.uses_negative_prompt:
        embeds["negative_prompt_embeds"] = embeds_of(job.plan.negative_prompt)
    tensors.save(job.workspace.text, embeds)
    context.progress(job, STAGE.name, 1, 1)


STAGE = Stage(
    name="text",
    run=_run,
    done=lambda job: job.workspace.text.exists(),
    steps=one_step,
    model=_encoder,
    shares=lambda plan: source_of(plan, "text"),
)
