"""What one LoRA adds to one linear layer, computed beside it: y += strength · (alpha/rank · up(down(x)) + …).

Exact in the algebra: equals a layer whose weight has the low-rank product (and `.diff`) merged in, without touching
that weight. Uses no temporary of the output's size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Branch:
    """`down` (rank, in), `up` (out, rank), `diff` (out, in), `bias` and `up_bias` (out,); absent ones are None.

    `scale` is alpha / rank; it applies to the pair and to `up_bias`, not to `diff` and `bias`.
    """

    strength: float
    scale: float
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    diff: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    up_bias: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        tensors = (self.down, self.up, self.diff, self.bias, self.up_bias)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Branch:
        """The branch with its tensors on `device` in `dtype`."""

        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, dtype)

        return replace(
            self,
            down=move(self.down),
            up=move(self.up),
            diff=move(self.diff),
            bias=move(self.bias),
            up_bias=move(self.up_bias),
        )

    def add_to(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add to the layer's output `y` (…, out) in place what this LoRA makes of its input `x` (…, in).

        Tensors kept elsewhere or in another dtype are brought to `x`'s for the call.
        """
        rows, flat = y.view(-1, y.shape[-1]), x.reshape(-1, x.shape[-1])
        if self.down is not None and self.up is not None:
            hidden = torch.nn.functional.linear(flat, self.down.to(flat))
            rows.addmm_(hidden, self.up.to(flat).t(), alpha=self.strength * self.scale)
        if self.diff is not None:
            rows.addmm_(flat, self.diff.to(flat).t(), alpha=self.strength)
        if self.bias is not None:
            rows.add_(self.bias.to(rows), alpha=self.strength)
        if self.up_bias is not None:
            rows.add_(self.up_bias.to(rows), alpha=self.strength * self.scale)
