"""The LoRAs of a request: which expert gets which file, what the plan says of them, and that the clip changes."""

from __future__ import annotations

import re
from pathlib import Path

import mini_formats as forms
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from wan2_i2v import GenerateRequest, api, devices
from wan2_i2v.doors.cli import main
from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models import catalog
from wan2_i2v.models.formats.architecture import skeleton
from wan2_i2v.models.formats.configs import transformer_config, transformer_shapes
from wan2_i2v.models.lora import choosing
from wan2_i2v.rows import ModelRow
from wan2_i2v.workspace import Workspace

DIM = 256


def lora(path: Path, *, dim: int = DIM, layer: str = "diffusion_model.blocks.1.self_attn.q", seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    pair = {
        f"{layer}.lora_down.weight": torch.randn(4, dim, generator=generator) / 16,
        f"{layer}.lora_up.weight": torch.randn(dim, 4, generator=generator),
        f"{layer}.alpha": torch.tensor(4.0),
    }
    save_file(pair, path)
    return path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("MODELS", "downloads"), ("MODELS_FILE", "models.toml"), ("OUTPUT", "output")):
        monkeypatch.setenv(f"WAN2_I2V_{name}", str(tmp_path / value))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save("picture.png")
    return tmp_path


@pytest.fixture
def mini() -> ModelRow:
    return catalog.find("mini")


def asked(**fields: object) -> GenerateRequest:
    known = {"image": "picture.png", "width": 64, "height": 64, "num_frames": 5, "seed": 1, "device": "cpu"}
    return GenerateRequest(**(known | fields))


def chosen(model: ModelRow, **fields: object) -> list[tuple[str, str, float]]:
    return [(lora.expert, Path(lora.path).name, lora.strength) for lora in choosing.choose(asked(**fields), model)]


@pytest.mark.parametrize("config", [{}, {"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 64}])
def test_shapes_without_torch_are_those_of_the_library(config: dict[str, int]) -> None:
    whole = transformer_config({}) | {"num_layers": 2} | config
    module = skeleton("transformer", whole)
    assert transformer_shapes(whole) == {name: tuple(value.shape) for name, value in module.named_parameters()}


def test_the_expert_follows_from_the_flag_or_the_files_name(place: Path, mini: ModelRow) -> None:
    for name in ("style.safetensors", "a_high_noise.safetensors", "a_low_noise.safetensors"):
        lora(place / name)
    both = [("high", "style.safetensors", 0.5), ("low", "style.safetensors", 0.5)]
    assert chosen(mini, loras=["style.safetensors:0.5"]) == both
    pair = [("high", "a_high_noise.safetensors", 1.0), ("low", "a_low_noise.safetensors", 1.0)]
    assert chosen(mini, loras=["a_high_noise.safetensors", "a_low_noise.safetensors"]) == pair
    assert chosen(mini, loras_low=["a_high_noise.safetensors:-2"]) == [("low", "a_high_noise.safetensors", -2.0)]
    (odd,) = choosing.choose(asked(loras_low=["a_high_noise.safetensors"]), mini)
    assert "its name says high noise and it is used on the low-noise expert" in odd.about
    assert (odd.matched, odd.unmatched) == (3, 0)


def test_rows_and_files_of_comfyui_by_name(place: Path, mini: ModelRow) -> None:
    folder = place / "ComfyUI" / "models" / "loras" / "mine"
    folder.mkdir(parents=True)
    (place / "elsewhere").mkdir()
    lora(folder / "x.safetensors")
    assert chosen(mini, loras=["x"]) == chosen(mini, loras=["mine/x.safetensors"])
    lora(place / "elsewhere" / "y.safetensors")
    (folder / "linked").symlink_to(place / "elsewhere", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "gone.safetensors").symlink_to(place / "nowhere")
    assert chosen(mini, loras=["y"]) == chosen(mini, loras=["mine/linked/y.safetensors"])
    with pytest.raises(InvalidRequest, match=r"Known: lightx2v, x, y\."):
        chosen(mini, loras=["gone"])
    with pytest.raises(CheckpointError, match="Get it: wan2-i2v models pull lightx2v"):
        chosen(mini, loras=["lightx2v"])
    for side in ("high", "low"):
        lora(place / f"{side}.safetensors")
    (place / "models.toml").write_text(
        "[loras.pair]\nhigh = 'high.safetensors'\nlow = 'low.safetensors'\nstrength = 0.7\nrecipe = 'lightx2v'\n"
    )
    assert chosen(mini, loras=["pair"]) == [("high", "high.safetensors", 0.7), ("low", "low.safetensors", 0.7)]
    assert chosen(mini, loras=["pair:0.2"])[0][2] == 0.2
    assert api.plan(asked(loras=["pair"])).recipe == "lightx2v"
    assert api.plan(asked(loras=["pair"], recipe="rapid")).recipe == "rapid"


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        ({"loras": ["fit.safetensors"]}, InvalidRequest, r"FILE\[:strength\], .* Did you mean 'fits\.safetensors'"),
        ({"loras": ["fits.safetensors:11"]}, InvalidRequest, "a strength from -10 to 10"),
        ({"loras": ["wide.safetensors"]}, CheckpointError, "changes nothing in this model: its layers have other sizes"),
        ({"loras": ["flux.safetensors"]}, CheckpointError, "changes nothing in this model: it was made for Flux"),
        ({"loras": ["picture.png"]}, CheckpointError, "holds no weights. Give a .safetensors"),
    ],
)  # fmt: skip
def test_what_cannot_act_is_refused_before_loading(
    fields: dict[str, list[str]], error: type[Exception], told: str, place: Path, mini: ModelRow
) -> None:
    lora(place / "fits.safetensors")
    lora(place / "wide.safetensors", dim=5120)
    lora(place / "flux.safetensors", layer="transformer.single_transformer_blocks.0.attn.to_q")
    with pytest.raises(error, match=told):
        choosing.choose(asked(**fields), mini)


def test_the_plan_says_in_which_steps_loras_act(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora(place / "style.safetensors")
    flags = ["plan", "picture.png", "--lora-high", "style.safetensors", "--lora-low", "style.safetensors:0"]
    assert main([*flags, "--allow-speech"]) == 0
    acting = re.findall(r"(high|low) +none +(yes|no)", capsys.readouterr().out)
    assert acting == [("high", "yes")] * 2 + [("low", "no")] * 2


def test_a_merged_model_has_one_list(place: Path) -> None:
    row = catalog.find(str(forms.diffusers_folder(place / "merged", merged=True)))
    lora(place / "x_low.safetensors")
    assert chosen(row, loras=["x_low.safetensors"]) == [("single", "x_low.safetensors", 1.0)]
    with pytest.raises(InvalidRequest, match=r"one merged expert\. Use --lora\."):
        chosen(row, loras_high=["x_low.safetensors"])
    with pytest.raises(InvalidRequest, match="lightx2v is a pair for two experts"):
        chosen(row, loras=["lightx2v"])


def latents(**fields: object) -> torch.Tensor:
    (order,) = api.prepare([asked(**fields)], rename=True)
    assert isinstance(order, api.Order), order
    (record,) = api.run([order])
    assert record.status == "done", record.error
    assert record.plan.loras == order.plan.loras
    return load_file(order.workspace.latents)["latents"]


def test_a_job_runs_with_its_loras(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As mini itself, its copy computes in float32, on processors that multiply bfloat16 too.
    monkeypatch.setattr(devices, "cpu_dtype", lambda: "float32")
    lora(place / "style.safetensors")
    plain, styled = latents(), latents(loras=["style.safetensors"])
    assert not torch.allclose(plain, styled, atol=1e-3)
    assert torch.equal(latents(loras=["style.safetensors:0"]), plain)
    places = forms.split(place / "split", "gguf F16")
    shared = {"configs": str(catalog.MINI), "tokenizer": str(catalog.MINI / "tokenizer")}
    (place / "models.toml").write_text(forms.toml_row("copy", places, boundary=0.9, **shared))
    assert torch.equal(latents(model="copy", loras=["style.safetensors"]), styled)


def test_jobs_with_other_loras_share_no_model_and_are_other_jobs(place: Path) -> None:
    from wan2_i2v.stages.base import source_of

    lora(place / "style.safetensors")
    one, other = api.plan(asked()), api.plan(asked(loras_high=["style.safetensors"]))
    assert one.fingerprint() != other.fingerprint()
    assert source_of(one, "denoise high") != source_of(other, "denoise high")
    assert source_of(one, "denoise low") == source_of(other, "denoise low")


def test_a_changed_lora_stops_a_resumed_job(place: Path) -> None:
    lora(place / "style.safetensors")
    (order,) = api.prepare([asked(loras=["style.safetensors"])])
    assert isinstance(order, api.Order)
    Workspace(order.workspace.root).create(order.request, order.plan)
    assert api.reopen(order.plan.job_id).plan.loras == order.plan.loras
    lora(place / "style.safetensors", seed=1)
    with pytest.raises(InvalidRequest, match="the file that the job was begun with"):
        api.reopen(order.plan.job_id)
