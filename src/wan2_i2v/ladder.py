"""What to do when memory runs out in spite of the plan: the next leaner way to run a stage. A leaf without torch.

Comes in: how a stage was run (`StagePeak`). Goes out: how to run it instead, or None when there is no leaner way. Size and
frames are the user's and never change. In order: smaller portions at once (tokens, heads), half of the blocks streamed,
all blocks streamed from the file, the VAE's picture in more strips. A stage without any of these is run once more, with
everything else freed.

What changes the result: head groups, streaming and a second try never do. Portions of tokens and strips change which
kernel a library picks, so results may differ in the last bits; portions are therefore kept as they are on a CPU.
"""

from __future__ import annotations

from wan2_i2v.memory import STRIPS, StagePeak

PORTIONS = ((4096, 4), (2048, 8), (512, 40))
"""Tokens of a chunk and groups of heads, from fast to sparing."""

AGAIN = "once more, everything else freed"


def leaner(peak: StagePeak, *, is_cuda: bool) -> StagePeak | None:
    """The next leaner way after `peak`, None when it is the leanest."""
    if peak.stage in ("image", "decode"):
        return None if peak.strips >= STRIPS[-1] else peak.model_copy(update={"strips": peak.strips * 2})
    portion = _smaller_portion(peak, is_cuda=is_cuda)
    if portion is not None:
        return portion
    if peak.residency == "streamed" and not peak.resident_blocks:
        return None
    kept = peak.resident_blocks // 2 if peak.residency == "resident" else 0
    return peak.model_copy(update={"residency": "streamed", "resident_blocks": kept})


def _smaller_portion(peak: StagePeak, *, is_cuda: bool) -> StagePeak | None:
    """Fewer tokens and heads at once; only heads on a CPU."""
    if not peak.chunk_tokens:
        return None
    for tokens, groups in PORTIONS:
        if groups > peak.head_groups:
            chunk = min(peak.chunk_tokens, tokens) if is_cuda else peak.chunk_tokens
            return peak.model_copy(update={"chunk_tokens": chunk, "head_groups": groups})
    return None


def describe(peak: StagePeak | None) -> str:
    """A way to run a stage in words."""
    if peak is None:
        return "as planned"
    if peak.stage in ("image", "decode"):
        return "the whole picture at once" if peak.strips == 1 else f"the picture in {peak.strips} strips"
    held = "weights resident" if peak.residency == "resident" else "blocks streamed"
    if peak.residency == "streamed" and peak.resident_blocks:
        held = f"{peak.resident_blocks} blocks resident, the others streamed"
    return f"{held}, {peak.chunk_tokens} tokens and {peak.head_groups} head groups" if peak.chunk_tokens else held
