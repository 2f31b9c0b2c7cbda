"""Blocks streamed from the mapped weight file: one computes while the next one is read, moved and converted.

Comes in: a module whose blocks are on the meta device and the `WeightSource` of its file. Goes out: `Streamed.ready`,
inside which one block has its weights. At most two blocks are held in the compute dtype, plus one as stored; the file's
own pages belong to the operating system, which keeps them while RAM is free and drops them when it is not, so the same
code runs "from RAM" and "from disk". Imported by `components`.

On CUDA, stored bytes go through one pinned staging buffer and a stream of their own, and are converted on the card.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import torch

from wan2_i2v.models.formats.opening import Component, compute_dtype, finish, set_parameter
from wan2_i2v.models.formats.packed import Packed
from wan2_i2v.models.formats.source import WeightSource

Weights = dict[str, torch.Tensor]

BLOCKS = {"transformer": "blocks", "text_encoder": "encoder.block"}
"""Where the repeated blocks are in each component's module."""


STAGING_BUFFERS = 2


class Mover:
    """Brings weights from the file to a device in the compute dtype. One thread uses it at a time."""

    def __init__(self, source: WeightSource, device: torch.device) -> None:
        self._source, self._device = source, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._staging: list[tuple[torch.Tensor, torch.cuda.Event]] = []

    def fetch(self, wanted: dict[str, torch.dtype]) -> Weights:
        """The weights named, each in its dtype, ready for use on the device."""
        if self._stream is None:
            return {key: self._source.load(key, self._device, dtype) for key, dtype in wanted.items()}
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            weights = {}
            for key, dtype in wanted.items():
                weights[key] = self._source.dequantise(self._moved(self._source.raw(key)), dtype)
            self._stream.synchronize()
        return weights

    def hand_over(self, weights: Weights) -> None:
        """Let the compute stream use weights that the moving stream made."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in weights.values():
                tensor.record_stream(current)

    def _moved(self, packed: Packed) -> Packed:
        """The weight on the card, still as stored, by way of pinned memory, from where it travels at full speed.

        Two buffers take turns, so that one is filled while the other one's copy is on its way. A weight that is kept on
        the card is there already.
        """
        if packed.data.device == self._device:
            return packed
        buffer, left = self._buffer(packed.data.nbytes)
        # Its last copy must have left before it is filled again.
        left.synchronize()
        staged = buffer[: packed.data.nbytes].view(packed.data.dtype).view(packed.data.shape)
        staged.copy_(packed.data)
        moved = replace(packed, data=staged).to(self._device, non_blocking=True)
        left.record(self._stream)
        return moved

    def _buffer(self, size: int) -> tuple[torch.Tensor, torch.cuda.Event]:
        """The pinned buffer that was used less recently, large enough, with the event of its last copy."""
        buffer, left = self._staging.pop(0) if len(self._staging) == STAGING_BUFFERS else (None, torch.cuda.Event())
        if buffer is None or buffer.nbytes < size:
            left.synchronize()
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self._staging.append((buffer, left))
        return buffer, left


class Streamed:
    """A module's blocks, present one at a time, in the order 0, 1, …, n − 1, 0, 1, …

    `keep` of them, spread evenly so that moving always overlaps with computing, stay once they have come. `executor` runs
    the prefetching; a thread of its own by default. A context manager: leaving it waits for the prefetch in flight and
    drops what it brought.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        part: str,
        source: WeightSource,
        placing: tuple[torch.device, torch.dtype],
        executor: Executor | None = None,
        *,
        keep: int = 0,
    ) -> None:
        self._blocks: Sequence[Any] = list(module.get_submodule(BLOCKS[part]).children())
        device, dtype = placing
        self._wanted = [
            _wanted(module, f"{BLOCKS[part]}.{index}.", source, dtype) for index in range(len(self._blocks))
        ]
        self._prefixes = [f"{BLOCKS[part]}.{index}." for index in range(len(self._blocks))]
        self._mover = Mover(source, device)
        self._staying = spread(keep, len(self._blocks))
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._present: set[int] = set()
        self._coming: tuple[int, Future[Weights]] | None = None

    @contextlib.contextmanager
    def ready(self, index: int) -> Iterator[None]:
        """The block's weights are there inside; the next block's are on their way."""
        if index in self._present:
            yield
            return
        weights = self._take(index)
        self._mover.hand_over(weights)
        if index in self._staying:
            self._present.add(index)
        self._start_after(index)
        block, prefix = self._blocks[index], self._prefixes[index]
        empty = {key: block.get_parameter(key.removeprefix(prefix)) for key in weights}
        for key, value in weights.items():
            set_parameter(block, key.removeprefix(prefix), value)
        del weights
        try:
            yield
        finally:
            if index not in self._present:
                for key, value in empty.items():
                    set_parameter(block, key.removeprefix(prefix), value)

    def close(self) -> None:
        """Wait for the prefetch in flight and drop it."""
        if self._coming is not None:
            self._coming[1].cancel()
        self._executor.shutdown(wait=True)
        self._coming = None

    def __enter__(self) -> Streamed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, index: int) -> Weights:
        if self._coming is None or self._coming[0] != index:
            self._start(index)
        assert self._coming is not None
        (_, arriving), self._coming = self._coming, None
        return arriving.result()

    def _start_after(self, index: int) -> None:
        """Send for the next block that does not stay, if any."""
        count = len(self._blocks)
        following = ((index + step) % count for step in range(1, count + 1))
        absent = next((block for block in following if block not in self._present), None)
        if absent is not None:
            self._start(absent)

    def _start(self, index: int) -> None:
        if self._coming is not None:
            # A block that nobody asked for: only after an interrupted pass.
            wait([self._coming[1]])
        self._coming = index, self._executor.submit(self._mover.fetch, self._wanted[index])


def spread(count: int, blocks: int) -> frozenset[int]:
    """`count` of `blocks` indices, as evenly spaced as can be."""
    count = min(count, blocks)
    return frozenset(index for index in range(blocks) if (index + 1) * count // blocks > index * count // blocks)


def load_outside_blocks(component: Component, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The component's module with everything on the device but its blocks, which stay on meta for `Streamed`."""
    module, prefix = component.skeleton(), f"{BLOCKS[component.part]}."
    mover = Mover(component.source, device)
    names = component.source.keys()
    for key in names:
        if not key.startswith(prefix):
            weights = mover.fetch({key: compute_dtype(module, key, dtype)})
            mover.hand_over(weights)
            set_parameter(module, key, weights[key])
    finish(module, device)
    return module


def stream_by_hooks(module: torch.nn.Module, part: str, blocks: Streamed) -> None:
    """Open and close `ready` around each block's own call, for modules whose forward is the library's."""
    for index, block in enumerate(module.get_submodule(BLOCKS[part]).children()):
        _hook(block, index, blocks)


def _hook(block: torch.nn.Module, index: int, blocks: Streamed) -> None:
    opened = contextlib.ExitStack()

    def enter(*_: Any) -> None:
        opened.enter_context(blocks.ready(index))

    def leave(*_: Any) -> None:
        opened.close()

    block.register_forward_pre_hook(enter)
    block.register_forward_hook(leave, always_call=True)


def _wanted(module: torch.nn.Module, prefix: str, source: WeightSource, dtype: torch.dtype) -> dict[str, torch.dtype]:
    names = source.keys()
    return {key: compute_dtype(module, key, dtype) for key in names if key.startswith(prefix)}
