"""What every training loop shares: a model with its optimiser, moving average and log, saved whole every few minutes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

SAVE_EVERY_S = 60.0
WARMUP_STEPS = 30
LEAST_RATE_SHARE = 0.05


@dataclass
class Trainer:
    """Training of `model` for `steps` steps at a peak learning rate of `rate`, resumed from `folder` when it has a save.

    The moving average's weights are what is exported.
    """

    model: torch.nn.Module
    folder: Path
    name: str
    steps: int
    rate: float
    decay: float = 0.999
    step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Parameters that a phase does not touch leave denormal numbers in Adam's moments: 20 times slower on CPUs.
        torch.set_flush_denormal(True)
        self.optimizer = torch.optim.AdamW(_trainable(self.model), lr=self.rate, betas=(0.9, 0.98), weight_decay=1e-3)
        self.average = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        if self.path.exists():
            self._restore()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.pt"

    def run(self, loss_of: Callable[[int], tuple[torch.Tensor, dict[str, float]]]) -> None:
        """Call `loss_of(step)` until `steps` are done; it must draw its batch from a generator seeded with `step`."""
        saved = time.monotonic()
        while self.step < self.steps:
            loss, figures = loss_of(self.step)
            self._update(loss)
            self.log.append({"step": self.step, "loss": float(loss.detach())} | figures)
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save()
                saved = time.monotonic()
        self.save()

    def _update(self, loss: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self._schedule()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(_trainable(self.model), 1.0)
        self.optimizer.step()
        self.step += 1
        weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                self.average[key].lerp_(value, weight)

    def _schedule(self) -> float:
        """Linear warm-up, then a cosine from 1 to LEAST_RATE_SHARE."""
        warmup = min(1.0, (self.step + 1) / WARMUP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        return warmup * (LEAST_RATE_SHARE + (1 - LEAST_RATE_SHARE) * cosine)

    def save(self) -> None:
        """Write weights, optimiser, average and log, atomically; print one line of progress."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.path)
        (self.folder / f"{self.name}.jsonl").write_text("\n".join(json.dumps(row) for row in self.log) + "\n")
        recent = self.log[-100:]
        means = {key: sum(row[key] for row in recent) / len(recent) for key in recent[-1] if key != "step"}
        print(f"{self.name} {self.step}/{self.steps}", {k: round(v, 4) for k, v in means.items()}, flush=True)

    def _restore(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]
        log = self.folder / f"{self.name}.jsonl"
        if log.exists():
            rows = [json.loads(line) for line in log.read_text().splitlines()]
            self.log = [row for row in rows if row["step"] <= self.step]


def _trainable(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
