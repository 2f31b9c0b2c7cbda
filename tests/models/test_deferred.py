"""diffusers' Wan classes come without its other models, which are still there for whoever asks."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
import threading
from types import ModuleType

import pytest

from wan2_i2v.models.deferred import Deferred, defer


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_no_stage_uses_is_not_imported():
    heavy = run("""
        import sys
        import wan2_i2v.pipeline
        from wan2_i2v.models.definitions import AutoencoderKLWan, WanTransformer3DModel
        for name in ("autoencoders.autoencoder_kl_ltx", "transformers.transformer_flux", "unets.unet_1d"):
            print(f"diffusers.models.{name}" in sys.modules)
        print("scipy.stats._stats_py" in sys.modules)
    """)
    assert heavy.split() == ["False"] * 4


def test_whoever_uses_the_rest_of_diffusers_gets_it():
    run("""
        import sys
        from wan2_i2v.models import definitions
        import diffusers, scipy.stats
        from diffusers import AutoencoderKL, UNet1DModel
        from diffusers.models.autoencoders import AutoencoderKLLTXVideo, AutoencoderKLWan
        from diffusers.models.transformers import *
        assert AutoencoderKLWan is definitions.AutoencoderKLWan is diffusers.AutoencoderKLWan
        assert WanTransformer3DModel is definitions.WanTransformer3DModel is diffusers.WanTransformer3DModel
        assert FluxTransformer2DModel is diffusers.FluxTransformer2DModel
        assert "unet_2d_blocks" in dir(diffusers.models.unets)
        assert scipy.stats.norm.cdf(0) == 0.5
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True)
        scheduler.set_timesteps(4)
        assert len(scheduler.sigmas) == 5
    """)


def test_packages_that_are_imported_already_stay_as_they_are():
    run("""
        import diffusers.models.autoencoders as before, scipy.stats as stats
        from wan2_i2v.models import definitions
        import diffusers.models.autoencoders, scipy.stats
        assert diffusers.models.autoencoders is before and before.AutoencoderKLWan is definitions.AutoencoderKLWan
        assert scipy.stats is stats
    """)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of packages to import, of which nothing stays imported."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "outer"]:
        del sys.modules[name]


def make(root, code: str) -> None:
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    (root / "outer" / "__init__.py").touch()
    (inner / "__init__.py").write_text(textwrap.dedent(code))
    (inner / "small.py").write_text("from . import __name__ as parent\n")


def test_a_submodule_is_imported_without_its_packages_code(packages):
    make(packages, "raise RuntimeError('the package ran')")
    defer("outer.inner")
    assert importlib.import_module("outer.inner.small").parent == "outer.inner"
    with pytest.raises(RuntimeError, match="the package ran"):
        _ = importlib.import_module("outer.inner").anything


def test_threads_wait_for_a_package_that_another_one_imports(packages):
    make(packages, "import time; time.sleep(0.2); runs = globals().get('runs', 0) + 1; value = 'ready'")
    defer("outer.inner")
    inner, seen = importlib.import_module("outer.inner"), []
    assert type(inner) is Deferred
    threads = [threading.Thread(target=lambda: seen.append(inner.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, inner.runs, type(inner)) == (["ready"] * 4, 1, ModuleType)


def test_names_that_are_nowhere_are_missing_as_always(packages):
    make(packages, "from sys import modules; early = hasattr(modules[__name__], 'later'); later = 1")
    defer("outer.inner", "outer.absent", "absent.inner")
    inner = importlib.import_module("outer.inner")
    assert not hasattr(inner, "__wrapped__") and type(inner) is Deferred
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = inner.nothing_here
    assert (inner.early, inner.later) == (False, 1)
    assert "outer.absent" not in sys.modules and "absent" not in sys.modules
