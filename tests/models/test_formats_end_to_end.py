"""The embedded model in every form, each through `generate`: latents equal to those of the weights that the form holds."""

from __future__ import annotations

from pathlib import Path

import mini_formats as forms
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from wan2_i2v import GenerateRequest, api, devices
from wan2_i2v.models.catalog import MINI

LOSSY = ("fp8_scaled", "gguf Q8_0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "picture.png")
    return folder


@pytest.fixture(autouse=True)
def _settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN2_I2V_OUTPUT", str(place / "output"))
    monkeypatch.setenv("WAN2_I2V_MODELS_FILE", str(place / "models.toml"))
    # As mini itself, its copies compute in float32, on processors that multiply bfloat16 too.
    monkeypatch.setattr(devices, "cpu_dtype", lambda: "float32")


def latents(place: Path, model: str, residency: str = "resident") -> torch.Tensor:
    """The final latents of the same request on `model`, its experts held in one way."""
    request = GenerateRequest(
        image=str(place / "picture.png"), prompt="A boat rocks.", width=64, height=64, num_frames=5, seed=1,
        model=model, device="cpu", overwrite=True, recipe="rapid", job_id=f"{Path(model).name}-{residency}".replace(" ", "-"),
    )  # fmt: skip
    prepared = api.prepare([request], rename=True)[0]
    assert isinstance(prepared, api.Order), prepared
    peaks = tuple(
        peak.model_copy(update={"residency": residency} if peak.stage.startswith("denoise") else {})
        for peak in prepared.plan.peaks
    )
    plan = prepared.plan.model_copy(update={"peaks": peaks})
    (record,) = api.run([api.Order(request, plan, prepared.workspace)])
    assert record.status == "done", record.error
    return load_file(prepared.workspace.latents)["latents"]


@pytest.fixture(scope="module")
def plain(place: Path) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAN2_I2V_OUTPUT", str(place / "output"))
        return latents(place, "mini")


def with_row(place: Path, text: str) -> None:
    (place / "models.toml").write_text(text)


SHARED = {"configs": str(MINI), "tokenizer": str(MINI / "tokenizer")}


@pytest.mark.parametrize("form", ["original names", "diffusers names", "gguf F16"])
def test_lossless_forms_give_the_same_bits(form: str, place: Path, plain: torch.Tensor) -> None:
    places = forms.split(place / form, form)
    with_row(place, forms.toml_row("copy", places, boundary=0.9, **SHARED))
    assert torch.equal(latents(place, "copy"), plain)


def test_a_diffusers_folder_gives_the_same_bits(place: Path, plain: torch.Tensor) -> None:
    assert torch.equal(latents(place, str(forms.diffusers_folder(place / "folder"))), plain)


@pytest.mark.parametrize("form", LOSSY)
def test_lossy_forms_differ_by_their_own_rounding(form: str, place: Path, plain: torch.Tensor) -> None:
    parts = ("transformer", "transformer_2", *(["text_encoder"] if form == "fp8_scaled" else []))
    rounded = {part: forms.rounded(forms.weights(part), form) for part in parts}
    reference = latents(place, str(forms.diffusers_folder(place / f"rounded {form}", rounded)))
    with_row(place, forms.toml_row("lossy", forms.split(place / form, form), boundary=0.9, **SHARED))
    result = latents(place, "lossy")
    assert torch.equal(result, reference)
    assert torch.equal(latents(place, "lossy", "streamed"), reference)
    # How far that is from the unrounded weights' latents says nothing here: mini's heads tell thousandths apart.
    assert not torch.equal(result, plain)


def test_an_all_in_one_file(place: Path) -> None:
    reference = latents(place, str(forms.diffusers_folder(place / "merged", merged=True)))
    path = forms.all_in_one(place / "aio.safetensors")
    with_row(place, forms.toml_row("aio", {"checkpoint": path}, **SHARED))
    assert torch.equal(latents(place, "aio"), reference)


def test_packed_weights_stay_packed_when_resident(place: Path) -> None:
    from wan2_i2v.models import catalog, components
    from wan2_i2v.models.formats.opening import open_component
    from wan2_i2v.models.formats.source import HeldSource

    with_row(place, forms.toml_row("held", forms.split(place / "held", "gguf Q8_0"), boundary=0.9, **SHARED))
    row = catalog.find("held")
    assert row.files is not None
    held = HeldSource(
        open_component(row.files.transformer, "transformer", row.files.config_file("transformer")).source, "cpu"
    )
    assert held.nbytes <= row.packed_bytes <= 1.2 * row.expert_parameters
    with components.transformer(components.Source(row.files, "cpu", "float32"), "high") as model:
        assert all(parameter.is_meta for parameter in model.blocks.parameters())
