"""The experts' start, second half: what the text asks for, and how far each place then moves; `lights` adds the light.

First the text attention of the first block is fitted to tell the motion (least squares over training wordings). Then the
feed-forwards of the first two blocks learn how far each token moves at each time, from the motions' formulas alone. No picture
is needed for any of it, so it takes minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from training import heads, initial, motions, wording
from training.state import SAVE_EVERY_S

PROMPTS, RIDGE = 1500, 1e-3
SHAPES = (
    (8, 8, 31), (12, 12, 9), (16, 16, 5), (16, 16, 19), (20, 20, 13), (24, 24, 19), (28, 28, 9), (32, 32, 19), (32, 32, 31),
    (40, 40, 13), (48, 48, 9), (12, 20, 9), (20, 12, 13), (16, 24, 21), (24, 16, 19), (24, 36, 19), (36, 24, 13), (40, 22, 19),
    (22, 40, 25), (32, 48, 9), (48, 32, 13), (16, 28, 31),
)  # fmt: skip
"""Latent height, width and frames."""
BATCH, STEPS, MOVES_PACE = 2048, 6000, (1.5e-3, 0.02)
LEAST_MOVE, OFTEN = 0.1, 6
MOVES_WORDING = ((0.6, 1.1), 0.05)
"""How clearly wordings ask that training does not know, and how much they seem to ask for each other motion."""
BEARINGS, OFF = 14, 10_000.0
SCALING, EVALUATION = 10**6, range(10**6 + 1, 10**6 + 21)
"""Seeds of the batches that inputs are scaled by and errors are told of; a step's batch has its number as the seed."""
Encode = Callable[[str], torch.Tensor]
Grid = npt.NDArray[np.float32]


class _Seen(Exception):
    """Carries a layer's input out of the model."""


@torch.no_grad()
def input_of(layer: torch.nn.Module, call: Callable[[], Any]) -> torch.Tensor:
    """What reaches `layer` when the model is called; the rest of the model does not run."""

    def catch(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        raise _Seen(arguments[0])

    handle = layer.register_forward_pre_hook(catch)
    try:
        call()
    except _Seen as seen:
        return torch.as_tensor(seen.args[0])[0]
    finally:
        handle.remove()
    raise AssertionError("the layer was not reached")


@torch.no_grad()
def read_wishes(model: WanTransformer3DModel, encode: Encode) -> None:
    """Fit the first block's text output so that channel WISH + i says that motion i is asked for."""
    rng = np.random.default_rng(21)
    output = model.blocks[0].attn2.to_out[0]
    timestep, rows, asked = torch.tensor([950.0]), [], []
    for _ in range(PROMPTS):
        prompt, motion = wording.random_request(rng)
        latents, embeds = torch.randn(1, 36, 1, 2, 2), encode(prompt)
        rows.append(input_of(output, lambda x=latents, e=embeds: model(x, timestep, e))[0])
        asked.append(wording.MOTIONS.index(motion))
    design = torch.cat([torch.stack(rows), torch.ones(PROMPTS, 1)], dim=1).double().numpy()
    wanted = np.eye(len(wording.MOTIONS))[asked]
    solution = np.linalg.solve(design.T @ design + RIDGE * PROMPTS * np.eye(design.shape[1]), design.T @ wanted)
    print("motion told from the text", (np.argmax(design @ solution, 1) == asked).mean())
    rows_out = slice(initial.WISH, initial.WISH + len(wording.MOTIONS))
    fitted = torch.from_numpy(initial.WISH_GAIN * solution).float()
    output.weight[rows_out], output.bias[rows_out] = fitted[:-1].T, fitted[-1]


@torch.no_grad()
def bearings(model: WanTransformer3DModel, grey: torch.Tensor, frames: int) -> torch.Tensor:
    """What tokens know about place and time, (frames · rows · columns, BEARINGS), for the grey latent of a size.

    Ten channels that blocks 0 and 1 fill, and whether the token itself lies at each border, read from its own image latent.
    """
    image = grey[None, :, None].repeat(1, 1, frames, 1, 1)
    image[:, :, 0] = torch.randn_like(image[:, :, 0])
    mask = torch.zeros(1, 4, *image.shape[2:])
    mask[:, :, 0] = 1
    latents, embeds = (
        torch.cat([torch.randn_like(image), mask, image], dim=1),
        torch.zeros(1, 512, model.config.text_dim),
    )
    seen = input_of(model.blocks[2], lambda: model(latents, torch.tensor([950.0]), embeds))
    own = seen[:, initial.IMAGE : initial.IMAGE + initial.PATCH_VALUES]
    cues = border_cues(model)
    return torch.cat([seen[:, initial.PLACES : initial.TURNS], own @ cues[:, :-1].T + cues[:, -1]], dim=1)


def border_cues(model: WanTransformer3DModel) -> torch.Tensor:
    """`initial.border_cues`, as block 0 of the model holds them."""
    values = model.blocks[0].attn1.to_v
    size = values.out_features // model.config.num_attention_heads
    rows = [size, size + 1, 2 * size, 2 * size + 1]
    image = slice(initial.IMAGE, initial.IMAGE + initial.PATCH_VALUES)
    return torch.cat([values.weight[rows, image] / initial.layer_norm_spread(model), values.bias[rows, None]], dim=1)


@torch.no_grad()
def wish(model: WanTransformer3DModel, embeds: torch.Tensor) -> torch.Tensor:
    """What block 0 reads from a prompt, (motions,)."""
    latents = torch.randn(1, 36, 2, 2, 2)
    seen = input_of(model.blocks[1], lambda: model(latents, torch.tensor([950.0]), embeds))
    return seen[0, initial.WISH : initial.WISH + initial.MOTIONS]


def displacements(motion: str, height: int, width: int, frames: int) -> torch.Tensor:
    """(frames, height / 2, width / 2, 2): how many tokens to the right, then down, the content of each token comes from.

    The move to the right is that of the row which the move down will take it from, and both stay within the picture.
    """
    setting = motions.scene(np.zeros((8 * height, 8 * width, 3), np.uint8))
    fields = []
    for frame in range(frames):
        x, y = motions.displacement(motions.resolve(motion), setting, 4 * frame)
        right, down = (x - setting.x).astype(np.float32), (y - setting.y).astype(np.float32)
        fields.append(np.stack([_centres(_before_move_down(right, down, setting)), _centres(down)], axis=-1) / 16)
    moved = np.stack(fields)
    rows, columns = moved.shape[1:3]
    place = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    limit = np.array([columns - 1, rows - 1])
    return torch.from_numpy(np.clip(place + moved, 0, limit) - place).float()


def _before_move_down(right: Grid, down: Grid, setting: motions.Scene) -> Grid:
    """`right` at the places that the move down takes to each row."""
    row = setting.y
    for _ in range(4):
        row = setting.y - cv2.remap(down, setting.x, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.remap(right, setting.x, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _centres(field: Grid) -> Grid:
    """The mean of the four pixels around each token's centre."""
    return np.asarray((field[7::16, 7::16] + field[8::16, 8::16] + field[7::16, 8::16] + field[8::16, 7::16]) / 4)


def sizes_of(moved: torch.Tensor) -> torch.Tensor:
    """Beside moves (frames, rows, columns, 2): logarithms of columns and rows over heads.SINK_SIZE."""
    _, rows, columns, _ = moved.shape
    sizes = torch.tensor([columns / heads.SINK_SIZE, rows / heads.SINK_SIZE]).log()
    return torch.cat([moved, sizes.expand(*moved.shape[:3], 2)], dim=-1)


class Knowledge:
    """Rows to learn from: place and time of random tokens beside the wish of a random prompt."""

    def __init__(
        self, model: WanTransformer3DModel, encode: Encode, grey_of: Callable[[int, int], torch.Tensor]
    ) -> None:
        known = [bearings(model, grey_of(h, w), frames) for h, w, frames in SHAPES]
        self.bearings = torch.cat(known)
        sizes = np.array([len(tokens) for tokens in known])
        self.first = np.concatenate([[0], sizes.cumsum()[:-1]])
        self.per_frame, self.sizes = np.array([h * w // 4 for h, w, _ in SHAPES]), sizes
        wishes: dict[str, list[torch.Tensor]] = {motion: [] for motion in wording.MOTIONS}
        rng = np.random.default_rng(22)
        for _ in range(PROMPTS):
            prompt, motion = wording.random_request(rng)
            wishes[motion].append(wish(model, encode(prompt)))
        self.wishes = {motion: torch.stack(said) for motion, said in wishes.items()}

    def batch(
        self,
        targets: dict[str, torch.Tensor],
        seed: int,
        often: tuple[str, ...] = (),
        wording_of: tuple[tuple[float, float], float] = MOVES_WORDING,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (about BATCH, BEARINGS + motions) and their targets; `targets[motion]` has one row per token of all SHAPES.

        Every motion has as many rows, in order; those of `often` OFTEN times as many.
        """
        rng = np.random.default_rng(seed)
        inputs, wanted = [], []
        for motion, said in self.wishes.items():
            count = BATCH // initial.MOTIONS * (OFTEN if motion in often else 1)
            shape = rng.integers(len(SHAPES), size=count)
            # Frame 0 is given; nothing is asked of its tokens.
            within = self.per_frame[shape] + rng.random(len(shape)) * (self.sizes - self.per_frame)[shape]
            chosen = torch.from_numpy(self.first[shape] + within.astype(np.int64))
            words = torch.from_numpy(rng.integers(0, len(said), len(chosen)))
            clearness = torch.from_numpy(rng.uniform(*wording_of[0], (len(words), 1))).float()
            blur = torch.from_numpy(rng.normal(0, wording_of[1], (len(words), initial.MOTIONS))).float()
            inputs.append(torch.cat([self.bearings[chosen], said[words] * clearness + blur], dim=1))
            wanted.append(targets[motion][chosen])
        return torch.cat(inputs), torch.cat(wanted)


def _hidden(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(torch.nn.functional.linear(rows, weight, bias), approximate="tanh")


def _layer(outputs: int, inputs: int, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.randn(outputs, inputs) * size).requires_grad_(), (torch.randn(outputs) * size).requires_grad_()


class Net:
    """Two feed-forwards on what tokens know, the second of which also reads what the first one tells it.

    The first has the inputs `early` only and is one block wide; the second is as wide as `blocks`.
    """

    def __init__(self, width: int, inputs: int, early: torch.Tensor, blocks: int, outputs: int) -> None:
        self.early = early
        self.first, self.told = _layer(width, len(early), 0.7), _layer(initial.HIDDEN_COUNT, width, 0.03)
        self.second = _layer(width * blocks, inputs + initial.HIDDEN_COUNT, 0.7)
        self.made = _layer(outputs, width * blocks, 0.0)
        self.mean, self.size = torch.zeros(inputs), torch.ones(inputs)

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [*self.first, *self.second, *self.told, *self.made]

    def scale(self, rows: torch.Tensor) -> None:
        """Inputs like `rows` come to have mean 0 and standard deviation 1 before they are used."""
        self.mean, self.size = rows.mean(0), rows.std(0)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        rows = (rows - self.mean) / self.size
        told = torch.nn.functional.linear(_hidden(rows[:, self.early], *self.first), *self.told)
        return torch.nn.functional.linear(_hidden(torch.cat([rows, told], dim=1), *self.second), *self.made)

    @torch.no_grad()
    def write(
        self, model: WanTransformer3DModel, blocks: tuple[int, ...], reads: torch.Tensor, writes: torch.Tensor
    ) -> None:
        """Put the first into the feed-forward of blocks[0], the second into those of the others.

        `reads`: numbers of the inputs as `_write` has them; `writes`: channels that the outputs are added to.
        """
        _unscale(self.first, self.mean[self.early], self.size[self.early])
        _unscale(self.second, self.mean, self.size)
        # Small, so that layer norms hardly feel it.
        told = self.told[0] * initial.HIDDEN_GAIN, self.told[1] * initial.HIDDEN_GAIN
        self.second[0][:, len(reads) :] /= initial.HIDDEN_GAIN
        channels = torch.arange(initial.HIDDEN_COUNT)
        _write(model, blocks[0], (self.first, reads[self.early]), (told, initial.HIDDEN + channels))
        everything = torch.cat([reads, BEARINGS + initial.MOTIONS + channels])
        parts = zip(
            blocks[1:],
            *(layer.chunk(len(blocks) - 1) for layer in self.second),
            self.made[0].chunk(len(blocks) - 1, dim=1),
            strict=True,
        )
        for number, (block, weight, bias, out) in enumerate(parts):
            constant = self.made[1] if number == 0 else torch.zeros_like(self.made[1])
            _write(model, block, ((weight, bias), everything), ((out, constant), writes))


def learn_moves(model: WanTransformer3DModel, knowledge: Knowledge, log: Path) -> float:
    """Train the first two feed-forwards to tell how far each token moves; returns the root mean square error in tokens."""
    targets = {
        motion: torch.cat([sizes_of(displacements(motion, *shape)).flatten(0, 2) for shape in SHAPES])
        for motion in wording.MOTIONS
    }
    torch.manual_seed(5)
    known = torch.arange(BEARINGS + initial.MOTIONS)
    # Block 0 knows the borders, two clocks and the wish; block 1 everything.
    net = Net(model.config.ffn_dim, len(known), torch.tensor([0, 1, 2, 3, 4, 5, *known[10:]]), 1, 4)
    net.scale(knowledge.batch(targets, SCALING)[0])

    def error(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (net(rows) - wanted).square()

    # Batches hold the same number of rows per motion, in order. Small motions have to be as right as large ones.
    usual = torch.stack([targets[motion][:, :2].square().mean().sqrt() for motion in wording.MOTIONS])
    weights = ((1.0 + LEAST_MOVE) / (usual + LEAST_MOVE)).square().repeat_interleave(BATCH // initial.MOTIONS)[:, None]
    descend(
        net.parameters, lambda step: (error(*knowledge.batch(targets, step)) * weights).mean(), STEPS, MOVES_PACE, log
    )
    with torch.no_grad():
        left = torch.cat(
            [error(*knowledge.batch(targets, seed))[:, :2].mean(1).view(initial.MOTIONS, -1) for seed in EVALUATION],
            dim=1,
        )
    print({motion: round(float(e) ** 0.5, 4) for motion, e in zip(wording.MOTIONS, left.mean(1), strict=True)})
    net.write(model, (0, 1), known, torch.tensor([initial.MOVE, initial.MOVE + 1, initial.SIZES, initial.SIZES + 1]))
    return float(left.mean()) ** 0.5


Layer = tuple[torch.Tensor, torch.Tensor]


def _unscale(layer: Layer, mean: torch.Tensor, size: torch.Tensor) -> None:
    """Make a layer that was trained on scaled inputs, its first ones, take them as they are."""
    weight, bias = layer
    scaled = weight[:, : len(mean)] / size
    bias -= scaled @ mean
    weight[:, : len(mean)] = scaled


@torch.no_grad()
def _write(
    model: WanTransformer3DModel, block: int, inner: tuple[Layer, torch.Tensor], outer: tuple[Layer, torch.Tensor]
) -> None:
    """Put a trained pair of layers into a block's feed-forward.

    The inner one's inputs are numbered as in `Knowledge.batch`, followed by the hidden and the found channels; the outer one writes to
    the given channels.
    """
    ffn, spread = model.blocks[block].ffn, initial.layer_norm_spread(model)
    into, out = ffn.net[0].proj, ffn.net[2]
    (weight, bias), reads = inner
    columns = torch.cat([
        torch.arange(initial.PLACES, initial.TURNS), torch.full((4,), -1),
        torch.arange(initial.WISH, initial.WISH + initial.MOTIONS),
        torch.arange(initial.HIDDEN, initial.HIDDEN + initial.HIDDEN_COUNT),
        torch.arange(initial.FOUND, initial.FOUND + initial.COLOURS),
    ])[reads]  # fmt: skip
    at_border = weight[:, columns < 0] @ border_cues(model)
    into.weight.zero_()
    into.weight[:, columns[columns >= 0]] = weight[:, columns >= 0] * spread
    into.weight[:, initial.IMAGE : initial.IMAGE + initial.PATCH_VALUES] = at_border[:, :-1] * spread
    into.bias.copy_(bias + at_border[:, -1])
    # The border cues mean nothing in the given frame, whose image latent is the picture: there, the layer is switched off.
    initial.switch_off_in_given(into, OFF, spread)
    (weight, bias), writes = outer
    out.weight.zero_()
    out.bias.zero_()
    out.weight[writes], out.bias[writes] = weight, bias


def descend(
    parameters: list[torch.Tensor],
    loss_of: Callable[[int], torch.Tensor],
    steps: int,
    pace: tuple[float, float],
    log: Path,
) -> None:
    """Adam with a linearly falling rate; `pace` is its highest and the length that gradients are cut to.

    The loss of every 50th step goes to `log`. All is saved beside it every minute, and gone on with from there:
    `loss_of(step)` has to draw by its number.
    """
    optimizer = torch.optim.Adam(parameters, lr=pace[0], betas=(0.9, 0.99))
    rows: list[dict[str, float]] = []
    begin, saved, path = 0, time.monotonic(), log.with_suffix(".pt")
    if path.exists():
        state = torch.load(path, weights_only=True)
        begin, rows = state["step"], state["log"]
        optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for parameter, value in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(value)
    for step in range(begin, steps):
        for group in optimizer.param_groups:
            group["lr"] = pace[0] * min(1.0, (step + 1) / 100) * (1 - step / steps)
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, pace[1])
        optimizer.step()
        if step % 50 == 49:
            rows.append({"step": step + 1, "loss": float(loss.detach())})
            print(log.stem, rows[-1], flush=True)
        if step + 1 == steps or time.monotonic() - saved > SAVE_EVERY_S:
            state = {"step": step + 1, "log": rows, "optimizer": optimizer.state_dict(), "parameters": parameters}
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
            saved = time.monotonic()
    log.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
