"""Rows of the catalog and of the user's models.toml: planned without their files, found in ComfyUI's folders, refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import format_files as files
import mini_formats as forms
import pytest
import torch
from safetensors.torch import load_file
from test_identify import VAE_IN, VAE_OUT, WRONG, t5

from wan2_i2v import GenerateRequest, api
from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models import catalog, shelf
from wan2_i2v.models.book import OWN, book
from wan2_i2v.models.catalog import MINI
from wan2_i2v.models.formats.configs import transformer_config, transformer_shapes
from wan2_i2v.presets import RECIPES


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any model but the embedded one."""
    for name, value in (("MODELS", "downloads"), ("MODELS_FILE", "models.toml"), ("OUTPUT", "output")):
        monkeypatch.setenv(f"WAN2_I2V_{name}", str(tmp_path / value))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


ROWS = ["a14b", "a14b-fp8", "a14b-gguf", "rapid-aio"]


@pytest.mark.parametrize("name", [*ROWS, "a14b-gguf:Q8_0"])
def test_absent_rows_can_be_planned_and_not_run(name: str, place: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "examples" / "pictures" / "boat.png", place)
    request = GenerateRequest(image="boat.png", model=name, num_frames=5, width=64, height=64, device="cpu")
    plan = api.plan(request)
    assert plan.model_files is None
    assert plan.model.startswith(name)
    assert ("single" in {step.expert for step in plan.steps}) == (name == "rapid-aio")
    (refused,) = api.prepare([request])
    assert isinstance(refused, CheckpointError)
    assert f"wan2-i2v models pull {plan.model}" in str(refused)


def test_the_catalog_is_sound() -> None:
    known = book()
    assert list(known.models) == ROWS
    assert "lightx2v" in known.loras
    for entry in known.files.values():
        assert len(entry.sha256) in (0, 64)
    for row in (*known.models.values(), *known.loras.values()):
        assert set(row.roles().values()) <= known.files.keys()
        assert row.licence
        assert row.recipe in RECIPES
    assert OWN.is_file()
    told = str(GenerateRequest.model_fields["model"].description)
    assert all(name in told for name in catalog.names())


def test_variants() -> None:
    assert catalog.look("a14b-gguf").name == "a14b-gguf:Q4_K_M"
    small, large = catalog.look("a14b-gguf"), catalog.look("a14b-gguf:Q8_0")
    assert 0 < small.packed_bytes < large.packed_bytes == catalog.look("a14b-gguf:Q6_K").packed_bytes
    assert catalog.missing("a14b-gguf:Q8_0")[0] == "Wan2.2-I2V-A14B-HighNoise-Q8_0.gguf"
    for name in ("a14b-gguf:Q9", "a14b-fp8:Q8_0"):
        with pytest.raises(CheckpointError, match=r"has no variant .*; allowed: (one of Q4_K_M|none)"):
            catalog.look(name)


BROKEN = {
    "[models.x\n": "is no TOML",
    "[models.x]\nhigg = 'a'\n": r"models\.x\.higg",
    "[models.x]\nboundary = 'much'\n": r"models\.x\.boundary",
    "[models.x]\nhigh = 'nowhere.safetensors'\n": "neither a path nor a file of the catalog",
    "[models.x]\nhigh = 'models.toml'\nlow = 'models.toml'\nboundary = 0.9\n": "lacks parts",
    "[models.x]\ncheckpoint = 'models.toml'\nboundary = 0.9\n": "two experts .* go with a boundary",
    "[models.x]\nrecipe = 'fast'\n": r"models\.x\.recipe: got 'fast'; allowed: 'rapid', .*\. See docs",
    "[models.x]\nhihg = 'a'\n": r"models\.x\.hihg is not known\. Did you mean 'high'\?",
    "[model.x]\nhigh = 'a'\n": r"model is not known\. Did you mean 'models'\?",
    "[models.x]\nboundary = 5\n": r"models\.x\.boundary: got 5; allowed: less than or equal to 1\.",
    "[models.x]\nboundary = nan\n": "got nan; allowed: a finite number",
    "[models.x]\nrepo = 'a/b'\ncheckpoint = 'c'\n": r"models\.x: it shall name one of these: repo, folder,",
    "[models.'x:y']\ncheckpoint = 'c'\n": "got the name 'x:y'; allowed: names without a colon",
    "[models.mini]\ncheckpoint = 'c'\n": "mini is the package's own",
    "[loras.x]\ntitle = 'a'\n": r"loras\.x: it shall name both, or high and low",
    "[loras.x]\nboth = 'a'\nstrength = 99\n": r"loras\.x\.strength: got 99; allowed: less than or equal to 10",
    "[files.x]\nrepo = 'a/b'\npath = '../c'\n": r"files\.x\.path: got '\.\./c'; it shall be a file's path inside",
    "[files.x]\nrepo = 'a/b'\npath = 'c'\nbytes = -5\n": r"files\.x\.bytes: got -5",
}


@pytest.mark.parametrize("text", BROKEN)
def test_faults_in_models_toml_are_named(text: str, place: Path) -> None:
    (place / "models.toml").write_text(text)
    with pytest.raises(CheckpointError, match=BROKEN[text]):
        catalog.find("x")


A14B = transformer_shapes(transformer_config({}) | {"num_layers": 40})


@pytest.fixture
def comfyui(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's folders with files of true sizes (and holes for content) under names of the user's own."""
    root = place / "ComfyUI" / "models"
    for name in ("diffusion_models/mine", "text_encoders", "vae", "checkpoints"):
        (root / name).mkdir(parents=True)
    for which in ("high", "low"):
        path = files.sparse(root / f"diffusion_models/mine/remix_{which}_noise.safetensors", A14B)
        with path.open("r+b") as stream:  # two experts differ in their content
            stream.seek(-8, 2)
            stream.write(which.encode())
    vae = {"encoder.conv1.weight": (96, 3, 3, 3, 3), VAE_IN: (96, 96, 3, 3, 3), VAE_OUT: (9, 9, 3, 3, 3)}
    files.sparse(root / "vae" / "some.safetensors", vae)
    text = t5(256384, per_layer=True) | {"spiece_model": (1000,)}
    files.sparse(root / "text_encoders" / "text.safetensors", text)
    files.sparse(root / "checkpoints" / "sdxl.safetensors", WRONG["SDXL"][1])
    (root / "checkpoints" / "cut.safetensors").write_bytes(b"\x05")
    return root


def test_files_of_comfyui_are_recognised_and_used_in_place(comfyui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shelf.comfyui_models() == comfyui
    assert "remix" in catalog.names()
    row = catalog.find("remix")
    assert (row.boundary_ratio, row.dim, row.num_layers) == (0.9, 5120, 40)
    assert row.files is not None
    assert row.files.transformer_2 == comfyui / "diffusion_models" / "mine" / "remix_low_noise.safetensors"
    for wanted in (comfyui, comfyui.parent):
        monkeypatch.setenv("WAN2_I2V_COMFYUI_MODELS", str(wanted))
        assert shelf.comfyui_models() == comfyui
    monkeypatch.setenv("WAN2_I2V_COMFYUI_MODELS", str(comfyui / "vae"))
    with pytest.raises(InvalidRequest, match="ComfyUI's folder of models"):
        catalog.find("a14b-fp8")


def test_a_broken_copy_in_comfyui_s_folders_is_not_the_file(comfyui: Path) -> None:
    entry = book().files["wan21-vae"]
    broken = comfyui / "vae" / entry.name
    broken.write_bytes(b"cut short")
    assert shelf.locate(entry) is None
    shutil.copy(comfyui / "vae" / "some.safetensors", broken)
    assert shelf.locate(entry) == broken


def test_a_catalog_file_under_another_name_is_found_by_length_and_kind(comfyui: Path) -> None:
    entry = book().files["wan21-vae"]
    length = (comfyui / "vae" / "some.safetensors").stat().st_size
    assert shelf.locate(entry) is None
    assert shelf.locate(entry.model_copy(update={"bytes": length})) == comfyui / "vae" / "some.safetensors"
    high = book().files["i2v-high-fp8"]
    size = (comfyui / "diffusion_models/mine/remix_low_noise.safetensors").stat().st_size
    found = shelf.locate(high.model_copy(update={"bytes": size}))
    assert found is not None and found.name == "remix_high_noise.safetensors"


def small(place: Path) -> dict[str, Path]:
    return forms.split(place / "split", "diffusers names")


SHARED = {"configs": str(MINI), "tokenizer": str(MINI / "tokenizer")}
AS = {"transformer": "high", "text_encoder": "text_encoder", "vae": "vae"}


@pytest.mark.parametrize("kind", WRONG)
def test_every_wrong_file_in_a_row_is_named(kind: str, place: Path) -> None:
    part, shapes, message = WRONG[kind]
    places = small(place) | {AS[part]: files.sparse(place / "wrong.safetensors", shapes)}
    (place / "models.toml").write_text(forms.toml_row("x", places, boundary=0.9, **SHARED))
    with pytest.raises(CheckpointError, match=message) as raised:
        catalog.find("x")
    assert "wrong.safetensors" in str(raised.value)
    assert "Get " in str(raised.value)


def test_one_expert_twice_swapped_cut_and_without_tokenizer(place: Path) -> None:
    places = small(place)
    toml = place / "models.toml"

    def refused(changed: dict[str, Path], message: str, **values: object) -> None:
        toml.write_text(forms.toml_row("x", places | changed, **({"boundary": 0.9} | SHARED | values)))
        with pytest.raises(CheckpointError, match=message):
            catalog.find("x")

    refused({"low": places["high"]}, "one expert was given twice")
    refused({"low": Path(shutil.copy(places["high"], place / "other.safetensors"))}, "one expert was given twice")
    refused({"low": places["high"], "high": places["low"]}, "the experts are swapped")
    cut = place / "cut_high.safetensors"
    cut.write_bytes(places["high"].read_bytes()[:-1])
    refused({"high": cut}, "is cut short: .* Download it again")
    state = load_file(places["low"])
    gone = state.pop("blocks.0.ffn.net.2.weight")
    refused(
        {"low": files.save(place / "part.safetensors", state)}, r"part\..* does not hold a whole transformer: 1 missing"
    )
    odd = files.save(place / "odd.safetensors", state | {"blocks.0.ffn.net.2.weight": gone.to(torch.int32)})
    refused({"low": odd}, r"stores weights as I32 \(blocks\.0\.ffn\.net\.2\.weight\), which cannot be read")
    for nothing in (place, places["vae"]):
        refused({}, "gives no tokenizer: that is a folder with", tokenizer=str(nothing))
    refused({}, r"transformer/config\.json is missing", configs=str(places["vae"]))
    toml.write_text(forms.toml_row("x", places, boundary=0.9, configs=str(MINI)))
    with pytest.raises(CheckpointError, match="carries no tokenizer"):
        catalog.find("x")
    toml.write_text(forms.toml_row("x", places, boundary=0.9, **SHARED))
    assert catalog.find("x").experts == ("high", "low")


def test_one_expert_by_its_path_is_no_model(place: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"high_noise\.safetensors is a Wan2\.2 I2V A14B expert .* alone, .* models\.toml"
    ):
        catalog.find(str(small(place)["high"]))
