"""Prompt → text embeddings, with one load of the text encoder for all jobs.

Comes in: the plan's prompts. Goes out: `text.safetensors` with prompt_embeds and, where CFG or NAG needs them,
negative_prompt_embeds, each (1, 512, text_dim) in the compute dtype.
"""

from __future__ import annotations

import html
import re

import ftfy
import torch

from wan2_i2v.footprint import TEXT_TOKENS
from wan2_i2v.models import components
from wan2_i2v.stages import tensors
from wan2_i2v.stages.base import Context, Job, Stage, one_step, source_of


def clean(prompt: str) -> str:
    """Wan's text cleaning: repaired Unicode, HTML entities resolved, whitespace collapsed (`wan/modules/tokenizers.py`)."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()


@torch.inference_mode()
def encode_prompt(encoder: components.TextEncoder, prompt: str) -> torch.Tensor:
    """Text embeddings (1, 512, text_dim); positions after the prompt's last token are zero, as Wan was trained.

    Only the real tokens are run: attention masks the padding, so the result does not depend on it.
    """
    tokens = encoder.tokenizer(
        [clean(prompt)], max_length=TEXT_TOKENS, truncation=True, add_special_tokens=True, return_tensors="pt"
    ).input_ids.to(encoder.model.device)
    hidden = encoder.model(tokens, torch.ones_like(tokens)).last_hidden_state
    return torch.nn.functional.pad(hidden, (0, 0, 0, TEXT_TOKENS - hidden.shape[1]))


def _run(encoder: components.TextEncoder, job: Job, context: Context) -> None:
    embeds = {"prompt_embeds": encode_prompt(encoder, job.plan.prompt)}
    if job.plan.uses_negative_prompt:
        embeds["negative_prompt_embeds"] = encode_prompt(encoder, job.plan.negative_prompt)
    tensors.save(job.workspace.text, embeds)
    context.progress(job, STAGE.name, 1, 1)


STAGE = Stage(
    name="text",
    run=_run,
    done=lambda job: job.workspace.text.exists(),
    steps=one_step,
    model=lambda plan: components.text_encoder(source_of(plan, "text")),
    shares=lambda plan: source_of(plan, "text"),
)
