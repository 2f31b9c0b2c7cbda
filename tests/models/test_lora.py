"""LoRA files of every key style on the golden expert: branches against merged weights, reports, clean removal."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import format_files as files
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models.formats.keys import original_module
from wan2_i2v.models.formats.opening import finish, load, open_component, set_parameter
from wan2_i2v.models.lora.apply import apply_loras
from wan2_i2v.models.lora.reading import LoraSpec

RANK, ALPHA = 4, 2.0
LAYERS = ("blocks.0.attn1.to_q", "blocks.0.attn2.to_out.0", "blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2")


@pytest.fixture(scope="module")
def inputs(tiny_wan: ModuleType) -> dict[str, torch.Tensor]:
    return {
        "hidden_states": torch.from_numpy(tiny_wan.normal("lora", (1, 36, 2, 4, 4))),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.from_numpy(tiny_wan.text_embeds()[:, :8]),
    }


@pytest.fixture(scope="module")
def base(tiny_experts: Path) -> WanTransformer3DModel:
    return load(open_component(tiny_experts / "transformer", "transformer"), "cpu", torch.float32)


@pytest.fixture
def model(base: WanTransformer3DModel) -> WanTransformer3DModel:
    return copy.deepcopy(base)


def _run(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs, return_dict=False)[0]


def _pairs(model: torch.nn.Module, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name in LAYERS:
        out, inside = model.get_submodule(name).weight.shape
        pairs[name] = (
            torch.randn(RANK, inside, generator=generator) / inside**0.5,
            torch.randn(out, RANK, generator=generator) * 0.2,
        )
    return pairs


def _kohya(name: str) -> str:
    return "lora_unet_" + str(original_module(name)).replace(".", "_")


STYLES = {
    "kohya": (_kohya, ".lora_down.weight", ".lora_up.weight", ".alpha"),
    "diffusers": (lambda name: f"transformer.{name}", ".lora_A.weight", ".lora_B.weight", None),
    "peft": (lambda name: f"base_model.model.{name}", ".lora_A.default.weight", ".lora_B.default.weight", None),
    "comfyui": (
        lambda name: f"diffusion_model.{original_module(name)}",
        ".lora_down.weight",
        ".lora_up.weight",
        ".alpha",
    ),
    "comfyui lora_A": (
        lambda name: f"diffusion_model.{original_module(name)}",
        ".lora_A.weight",
        ".lora_B.weight",
        None,
    ),
    "bare": (lambda name: str(original_module(name)), ".lora_down.weight", ".lora_up.weight", ".alpha"),
}


def _write(path: Path, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], style: str) -> Path:
    rename, down_end, up_end, alpha_end = STYLES[style]
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors |= {rename(name) + down_end: down, rename(name) + up_end: up}
        if alpha_end:
            tensors[rename(name) + alpha_end] = torch.tensor(ALPHA)
    return files.save(path, tensors)


def _merge(model: torch.nn.Module, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], factor: float) -> None:
    for name, (down, up) in pairs.items():
        model.get_submodule(name).weight.data.add_(up @ down, alpha=factor)


@pytest.mark.parametrize("style", STYLES)
def test_branch_equals_merged_weights(style: str, model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.safetensors", _pairs(model), style)
    before = _run(model, inputs)
    with apply_loras(model, [LoraSpec(path, 0.8)]) as applied:
        branched = _run(model, inputs)
        (report,) = applied.reports
    _merge(model, _pairs(model), 0.8 * (ALPHA / RANK if STYLES[style][3] else 1.0))
    merged = _run(model, inputs)
    assert (merged - before).abs().max() > 0.05
    assert (branched - merged).abs().max() <= 1e-5
    assert len(report.matched) == len(LAYERS) * (3 if STYLES[style][3] else 2)
    assert report.unmatched == ()


def test_agrees_with_diffusers_own_loader(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    """The same ComfyUI-style file through diffusers' converter, merged by hand."""
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers
    from safetensors.torch import load_file

    path = _write(tmp_path / "a.safetensors", _pairs(model), "comfyui")
    converted = _convert_non_diffusers_wan_lora_to_diffusers(load_file(path))
    with apply_loras(model, [LoraSpec(path)]):
        branched = _run(model, inputs)
    for name in LAYERS:
        down, up = (converted[f"transformer.{name}.lora_{side}.weight"] for side in "AB")
        model.get_submodule(name).weight.data.add_(up @ down)
    assert (branched - _run(model, inputs)).abs().max() <= 1e-5


def test_several_loras_on_one_layer(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    first = _write(tmp_path / "a.safetensors", _pairs(model, 1), "kohya")
    second = _write(tmp_path / "b.safetensors", _pairs(model, 2), "diffusers")
    with apply_loras(model, [LoraSpec(first, 0.5), LoraSpec(second, -0.7), LoraSpec(second, 0.0)]) as applied:
        branched = _run(model, inputs)
        assert [report.strength for report in applied.reports] == [0.5, -0.7, 0.0]
        assert all(len(layer) == 2 for layer in applied.branches.values())
    _merge(model, _pairs(model, 1), 0.5 * ALPHA / RANK)
    _merge(model, _pairs(model, 2), -0.7)
    assert (branched - _run(model, inputs)).abs().max() <= 1e-5


def test_base_weights_stay_and_nothing_leaks(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    path = _lightx2v(tmp_path / "a.safetensors", model)
    weights = {key: (value.data_ptr(), value.clone()) for key, value in model.named_parameters()}
    before = _run(model, inputs)
    with pytest.raises(RuntimeError, match="in the middle"), apply_loras(model, [LoraSpec(path)]):
        assert not torch.equal(_run(model, inputs), before)
        for name in LAYERS:
            assert torch.equal(model.get_submodule(name).weight, weights[f"{name}.weight"][1])
        raise RuntimeError("in the middle")
    assert all(
        value.data_ptr() == weights[key][0] and torch.equal(value, weights[key][1])
        for key, value in model.named_parameters()
    )
    assert torch.equal(_run(model, inputs), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_failure_in_the_second_file_applies_none(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    good = _write(tmp_path / "a.safetensors", _pairs(model), "kohya")
    bad = files.save(tmp_path / "b.safetensors", {"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(2, 2)})
    before = _run(model, inputs)
    with pytest.raises(CheckpointError):
        apply_loras(model, [LoraSpec(good), LoraSpec(bad)])
    assert torch.equal(_run(model, inputs), before)
    with apply_loras(model, [LoraSpec(good)]), pytest.raises(ValueError, match="has LoRAs on already"):
        apply_loras(model, [LoraSpec(good)])


def _lightx2v(path: Path, model: torch.nn.Module) -> Path:
    """A file as LightX2V extracts them: low-rank pairs, whole-weight and bias differences, norms, modulation."""
    tensors = {}
    for name, (down, up) in _pairs(model).items():
        original = f"diffusion_model.{original_module(name)}"
        tensors |= {f"{original}.lora_down.weight": down, f"{original}.lora_up.weight": up}
    generator = torch.Generator().manual_seed(5)
    for name in _DIFFS:
        original = f"diffusion_model.{original_module(name)}"
        parameter = dict(model.named_parameters()).get(name)
        layer = None if parameter is not None else model.get_submodule(name)
        weight = parameter if layer is None else layer.weight
        tensors[f"{original}.diff"] = torch.randn(weight.shape, generator=generator) * 0.05
        if layer is not None and getattr(layer, "bias", None) is not None:
            tensors[f"{original}.diff_b"] = torch.randn(layer.bias.shape, generator=generator) * 0.05
    return files.save(path, tensors)


_DIFFS = (
    "proj_out",
    "patch_embedding",
    "condition_embedder.time_proj",
    "blocks.0.norm2",
    "blocks.0.attn1.norm_q",
    "blocks.1.scale_shift_table",
    "scale_shift_table",
)


def _merge_diffs(model: torch.nn.Module, path: Path, strength: float) -> None:
    from safetensors.torch import load_file

    tensors = load_file(path)
    known = dict(model.named_parameters())
    for name in _DIFFS:
        original = f"diffusion_model.{original_module(name)}"
        known[name if name in known else f"{name}.weight"].data.add_(tensors[f"{original}.diff"], alpha=strength)
        if f"{original}.diff_b" in tensors:
            known[f"{name}.bias"].data.add_(tensors[f"{original}.diff_b"], alpha=strength)


def test_lightx2v_diffs_on_every_kind_of_layer(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    path = _lightx2v(tmp_path / "a.safetensors", model)
    with apply_loras(model, [LoraSpec(path, 0.9)]) as applied:
        branched = _run(model, inputs)
        assert applied.reports[0].unmatched == ()
        assert applied.nbytes == sum(t.nbytes for t in _tensors(path).values())
    _merge(model, _pairs(model), 0.9)
    _merge_diffs(model, path, 0.9)
    assert (branched - _run(model, inputs)).abs().max() <= 1e-5


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_on_packed_weights_that_load_later(
    tiny_wan: ModuleType, model: torch.nn.Module, inputs: dict, tmp_path: Path
) -> None:
    """The streaming way: LoRAs go on a meta module, weights come afterwards through the adjusted source."""
    weights = {key: torch.from_numpy(value) for key, value in tiny_wan.expert("high").items()}
    base = files.save(tmp_path / "base.safetensors", files.fp8(weights, torch.float8_e4m3fn))
    path = _lightx2v(tmp_path / "a.safetensors", model)
    component = open_component(base, "transformer")
    streamed = component.skeleton()
    with apply_loras(streamed, [LoraSpec(path, 0.9)]) as applied:
        source = applied.adjust(component.source)
        for key in source.keys():  # noqa: SIM118
            assert source.raw(key).data.dtype == component.source.raw(key).data.dtype
            set_parameter(streamed, key, source.load(key, "cpu", torch.float32))
        finish(streamed, "cpu")
        branched = _run(streamed, inputs)
        key = "blocks.0.norm2.weight"
        assert source.stored_bytes(key) == source.raw(key).nbytes == 2 * component.source.stored_bytes(key)
    merged = load(component, "cpu", torch.float32)
    _merge(merged, _pairs(model), 0.9)
    _merge_diffs(merged, path, 0.9)
    assert (branched - _run(merged, inputs)).abs().max() <= 1e-5


def test_kept_on_a_device_in_a_dtype(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.safetensors", _pairs(model), "kohya")
    with apply_loras(model, [LoraSpec(path)]) as applied:
        expected = _run(model, inputs)
        exact = applied.nbytes
    with apply_loras(model, [LoraSpec(path)], device="cpu", dtype=torch.bfloat16) as applied:
        assert applied.nbytes * 2 == exact
        assert (_run(model, inputs) - expected).abs().max() < 0.05


def test_convolution_pair_and_peft_bias(model: torch.nn.Module, inputs: dict, tmp_path: Path) -> None:
    down, up = torch.randn(2, 36, 1, 2, 2) * 0.05, torch.randn(256, 2, 1, 1, 1) * 0.2
    pair, bias = _pairs(model)[LAYERS[0]], torch.randn(256)
    path = files.save(
        tmp_path / "a.safetensors",
        {
            "diffusion_model.patch_embedding.lora_down.weight": down,
            "diffusion_model.patch_embedding.lora_up.weight": up,
            "diffusion_model.patch_embedding.alpha": torch.tensor(1.0),
            "diffusion_model.blocks.0.self_attn.q.lora_A.weight": pair[0],
            "diffusion_model.blocks.0.self_attn.q.lora_B.weight": pair[1],
            "diffusion_model.blocks.0.self_attn.q.lora_B.bias": bias,
        },
    )
    with apply_loras(model, [LoraSpec(path)]):
        branched = _run(model, inputs)
    model.patch_embedding.weight.data.add_((up.flatten(1) @ down.flatten(1)).view(256, 36, 1, 2, 2), alpha=0.5)
    layer = model.get_submodule(LAYERS[0])
    layer.weight.data.add_(pair[1] @ pair[0])
    layer.bias.data.add_(bias)
    assert (branched - _run(model, inputs)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("extra", "scale"), [({}, 0.5), ({"use_rslora": True}, 1.0), ({"alpha_pattern": {"to_q": 8}}, 2.0)]
)
def test_peft_scale_from_diffusers_metadata(extra: dict, scale: float, model: torch.nn.Module, tmp_path: Path) -> None:
    name = LAYERS[0]
    down, up = _pairs(model)[name]
    config = {f"transformer.{key}": value for key, value in ({"lora_alpha": 2, "r": RANK} | extra).items()}
    path = tmp_path / "a.safetensors"
    save_file(
        {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up},
        path,
        metadata={"lora_adapter_metadata": json.dumps(config)},
    )
    with apply_loras(model, [LoraSpec(path)]) as applied:
        assert applied.branches[name][0].scale == scale


def test_unmatched_names_are_reported_with_reasons(model: torch.nn.Module, tmp_path: Path) -> None:
    down, up = _pairs(model)[LAYERS[0]]
    q, v = "diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.0.self_attn.v"
    tensors = {
        f"{q}.lora_down.weight": down,
        f"{q}.lora_up.weight": up,
        f"{v}.lora_down.weight": down.clone(),
        "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": torch.zeros(4, 256),
        "diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": torch.zeros(256, 4),
        "diffusion_model.patch_embedding.diff": torch.zeros(256, 16, 1, 2, 2),
        "diffusion_model.blocks.0.self_attn.norm_q.diff_b": torch.zeros(256),
        "diffusion_model.blocks.0.self_attn.k.alpha": torch.tensor(1.0),
        "diffusion_model.blocks.0.strange": torch.zeros(1),
        "transformer.blocks.0.attn1.to_q.lora_A.weight": down.clone(),
    }
    path = files.save(tmp_path / "wan_HighNoise.safetensors", tensors)
    with apply_loras(model, [LoraSpec(path)], expert="low") as applied:
        (report,) = applied.reports
    assert report.matched == (f"{q}.lora_down.weight", f"{q}.lora_up.weight")
    reasons = dict(report.unmatched)
    assert reasons.keys() == tensors.keys() - set(report.matched)
    assert reasons[f"{v}.lora_down.weight"] == "half of a low-rank pair"
    assert reasons["diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight"] == "no such layer in this model"
    assert (
        reasons["diffusion_model.patch_embedding.diff"] == "made for (256, 16, 1, 2, 2), this one is (256, 36, 1, 2, 2)"
    )
    assert "bias that this layer does not have" in reasons["diffusion_model.blocks.0.self_attn.norm_q.diff_b"]
    assert reasons["diffusion_model.blocks.0.self_attn.k.alpha"] == "has no tensor that acts"
    assert reasons["diffusion_model.blocks.0.strange"] == "of a kind that is not known"
    assert reasons["transformer.blocks.0.attn1.to_q.lora_A.weight"] == "names a layer a second time"
    assert report.notes == ("its name says high noise and it is used on the low-noise expert",)
    assert "2 of 10 tensors match (ComfyUI names); 8 not used" in report.describe()


REFUSED = {
    "another size": (
        {"blocks.0.self_attn.q.lora_A.weight": (4, 3072), "blocks.0.self_attn.q.lora_B.weight": (3072, 4)},
        "made for a layer of 3072 × 3072, this one is 256 × 256",
    ),
    "flux": ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (4, 8)}, "made for Flux"),
    "sdxl": ({"lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight": (4, 8)}, "kohya names"),
    "unknown": ({"foo.bar.lora_A.weight": (4, 8)}, "none of its names is known"),
    "half a pair": ({"blocks.0.self_attn.q.lora_A.weight": (4, 256)}, "cannot be used .half of a low-rank pair."),
    "rank 0": (
        {"blocks.0.self_attn.q.lora_A.weight": (0, 256), "blocks.0.self_attn.q.lora_B.weight": (256, 0)},
        "a low-rank pair of rank 0",
    ),
    "alphas": (
        {"blocks.0.ffn.0.lora_A.weight": (4, 256), "blocks.0.ffn.0.lora_B.weight": (512, 4), "blocks.0.ffn.0.alpha": (3,)},
        "its alpha is not one number",
    ),
    "dora": ({"blocks.0.ffn.0.lora_A.weight": (4, 256), "blocks.0.ffn.0.dora_scale": (512,)}, "is a DoRA"),
    "lokr": ({"lora_unet_blocks_0_ffn_0.lokr_w1": (4, 4)}, "is a LoKr adapter, which is not supported"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_change_nothing_are_refused(kind: str, model: torch.nn.Module, tmp_path: Path) -> None:
    shapes, message = REFUSED[kind]
    path = files.save(tmp_path / "a.safetensors", {name: torch.zeros(shape) for name, shape in shapes.items()})
    with pytest.raises(CheckpointError, match=message):
        apply_loras(model, [LoraSpec(path)])


def test_quantised_tensors_are_no_lora(model: torch.nn.Module, tmp_path: Path) -> None:
    pair = {"blocks.0.self_attn.q.lora_A.weight": (4, 256), "blocks.0.self_attn.q.lora_B.weight": (256, 4)}
    tensors = {name: torch.ones(shape, dtype=torch.int8) for name, shape in pair.items()}
    with pytest.raises(CheckpointError, match="stored as I8, which is not read in a LoRA"):
        apply_loras(model, [LoraSpec(files.save(tmp_path / "a.safetensors", tensors))])


def test_a_model_is_no_lora_and_a_strength_is_a_number(
    model: torch.nn.Module, tiny_experts: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"is a Wan2\.2 I2V A14B expert .*, not a LoRA"):
        apply_loras(model, [LoraSpec(tiny_experts / "transformer")])
    path = _write(tmp_path / "a.safetensors", _pairs(model), "kohya")
    with pytest.raises(InvalidRequest, match="finite"):
        apply_loras(model, [LoraSpec(path, float("nan"))])
