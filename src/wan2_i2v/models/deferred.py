"""Packages that diffusers imports on the way to Wan, made only when something asks them for a name.

Comes in: names of packages. Goes out: entries of `sys.modules` that have a path, so that single submodules can be
imported below them, and run their own code on the first name that they lack. diffusers' Wan classes need a few
modules of packages that import all of its models, and its schedulers import `scipy.stats` for one option: 33 MiB and half a
second, measured, that no stage uses. Whoever uses those packages in the same process gets them whole. Imported by
`definitions`.
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

UNUSED = (
    "diffusers.models.autoencoders",
    "diffusers.models.controlnets",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "scipy.stats",
)

_filling = threading.RLock()
_begun: set[str] = set()


class Deferred(ModuleType):
    """A package whose own code has not run yet; it becomes an ordinary module when it does."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            # What Python itself looks for in any module.
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _filling:
            if type(self) is Deferred:
                self._fill(name)
        return getattr(self, name)

    def _fill(self, name: str) -> None:
        """Run the package's own code. Other threads wait; what that code itself looks for too early is not there yet."""
        if self.__name__ in _begun:
            raise AttributeError(f"module {self.__name__!r} is still being imported and has no {name!r} yet")
        _begun.add(self.__name__)
        try:
            assert self.__spec__ is not None and self.__spec__.loader is not None
            self.__spec__.loader.exec_module(self)
            self.__class__ = ModuleType  # type: ignore[assignment]
        finally:
            _begun.discard(self.__name__)

    def __dir__(self) -> list[str]:
        # `__all__` is a name that brings the rest, also where there is none.
        getattr(self, "__all__", None)
        return list(ModuleType.__dir__(self))


def defer(*names: str) -> None:
    """Put packages off that nobody has imported yet; those that are not installed are none of our business."""
    for name in names:
        parent, _, child = name.rpartition(".")
        if name in sys.modules:
            continue
        try:
            package = importlib.import_module(parent)
            spec = find_spec(name)
        except ImportError:
            continue
        if spec is None or spec.submodule_search_locations is None:
            continue
        sys.modules[name] = module = module_from_spec(spec)
        module.__class__ = Deferred
        setattr(package, child, module)
