"""How much memory a computation holds at its peak, measured without doing it: run it on the meta device in here.

Comes in: a `with` block that runs the real runtime on meta tensors. Goes out: the peak of live storage bytes. Imported
by benchmarks and tests.
"""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Trace:
    """`peak` and `live` bytes of storages made inside the `with` block; `count(tensors)` adds what existed before.

    Two operations have no meta answer and get one: attention allocates its output and one float per query, as a fused
    kernel does; a comparison of values says "different".
    """

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()
        self._modes = (_Fused(), _Allocations(self))

    def count(self, *tensors: torch.Tensor) -> None:
        """Count these tensors' storages until they are freed; one that is counted already is not counted twice."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known.add(key)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __enter__(self) -> Trace:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)


class _Allocations(TorchDispatchMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.equal.default:
            return False
        result = func(*args, **(kwargs or {}))
        self._trace.count(*(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)))
        return result


class _Fused(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            log_sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
            result = torch.empty_like(query, memory_format=torch.contiguous_format)
            del log_sums
            return result
        return func(*args, **(kwargs or {}))
