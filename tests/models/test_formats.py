"""The same tiny experts in every format, run through diffusers' own transformer in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import format_files as files
import gguf
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats import decoding
from wan2_i2v.models.formats.opening import compute_dtype, load, open_component


@dataclass(frozen=True)
class Tiny:
    """The golden high-noise expert: original weights, and diffusers' transformer made by diffusers itself."""

    original: dict[str, torch.Tensor]
    diffusers: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    output: torch.Tensor
    folder: Path


@pytest.fixture(scope="module")
def tiny(tiny_wan: ModuleType, tiny_experts: Path) -> Tiny:
    from diffusers import WanTransformer3DModel

    original = {key: torch.from_numpy(value) for key, value in tiny_wan.expert("high").items()}
    inputs = {
        "hidden_states": torch.from_numpy(tiny_wan.normal("formats", (1, 36, 2, 4, 4))),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.from_numpy(tiny_wan.text_embeds()[:, :8]),
    }
    converted = convert_wan_transformer_to_diffusers(dict(original))
    # Copied, as `from_pretrained` leaves weights at unaligned addresses, where CPU kernels round differently.
    model = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(tiny_experts / "transformer")).eval()
    model.load_state_dict(converted)
    return Tiny(original, converted, inputs, _run(model, inputs), tiny_experts / "transformer")


def _run(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs, return_dict=False)[0]


def _loaded(path: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return load(open_component(path, "transformer"), "cpu", dtype)


WRITERS: dict[str, Callable[[Path, Tiny], Path]] = {
    "diffusers folder": lambda path, tiny: tiny.folder,
    "diffusers file": lambda path, tiny: files.save(path / "a.safetensors", tiny.diffusers),
    "original": lambda path, tiny: files.save(path / "a.safetensors", tiny.original),
    "prefixed": lambda path, tiny: files.save(
        path / "a.safetensors", files.prefixed(tiny.original, "model.diffusion_model.")
    ),
    "gguf F32": lambda path, tiny: files.save_gguf(path / "a.gguf", _arrays(tiny.original), "F32"),
    "pth": lambda path, tiny: _torch_save(path / "a.pth", tiny.original),
}


def _arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.float().numpy() for key, value in weights.items()}


def _torch_save(path: Path, weights: Mapping[str, torch.Tensor]) -> Path:
    torch.save(dict(weights), path)
    return path


@pytest.mark.parametrize("kind", WRITERS)
def test_lossless_formats_are_exact(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    model = _loaded(WRITERS[kind](tmp_path, tiny))
    assert {key: value.dtype for key, value in model.state_dict().items()} == dict.fromkeys(
        tiny.diffusers, torch.float32
    )
    assert all(torch.equal(value, tiny.diffusers[key]) for key, value in model.state_dict().items())
    assert torch.equal(_run(model, tiny.inputs), tiny.output)


def test_sharded_folder_is_exact(tiny: Tiny, tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    WanTransformer3DModel.from_pretrained(tiny.folder).save_pretrained(tmp_path, max_shard_size="2MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(_run(_loaded(tmp_path), tiny.inputs), tiny.output)


def _nearby(model: torch.nn.Module, tiny: Tiny, bound: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Assert every weight within `bound(weight)` of float32's and give the output's relative error."""
    for key, value in model.state_dict().items():
        expected = tiny.diffusers[key]
        excess = (value.float() - expected).abs() - bound(expected)
        assert excess.max() <= 0, key
    difference = _run(model, tiny.inputs) - tiny.output
    return float(difference.norm() / tiny.output.norm())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files(dtype: torch.dtype, tiny: Tiny, tmp_path: Path) -> None:
    halved = {key: value.to(dtype) for key, value in tiny.original.items()}
    model = _loaded(files.save(tmp_path / "a.safetensors", halved))
    unit = torch.finfo(dtype).eps / 2
    smallest = torch.finfo(dtype).smallest_normal
    error = _nearby(model, tiny, lambda w: w.abs() * unit + smallest)
    assert error <= 8 * unit
    assert all(
        torch.equal(v, convert_wan_transformer_to_diffusers(dict(halved))[k].float())
        for k, v in model.state_dict().items()
    )


FP8 = {
    "e4m3": (torch.float8_e4m3fn, False, (".scale_weight", "")),
    "e4m3 per row": (torch.float8_e4m3fn, True, (".scale_weight", "")),
    "e5m2": (torch.float8_e5m2, False, (".scale_weight", "")),
    "comfy_quant": (torch.float8_e4m3fn, False, (".weight_scale", ".comfy_quant")),
}


@pytest.mark.parametrize("kind", FP8)
def test_fp8_scaled(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    dtype, rows, names = FP8[kind]
    stored = files.fp8(tiny.original, dtype, rows=rows, names=names)
    component = open_component(files.save(tmp_path / "a.safetensors", stored), "transformer")
    # Half a unit in the last place, plus half the smallest subnormal times the scale.
    info = torch.finfo(dtype)
    tiniest = info.smallest_normal * info.eps

    def bound(weight: torch.Tensor) -> torch.Tensor:
        scale = weight.abs().amax(dim=-1, keepdim=True) if rows and weight.ndim == 2 else weight.abs().max()
        return weight.abs() * (info.eps / 2) * 1.001 + scale / info.max * tiniest

    error = _nearby(load(component, "cpu", torch.float32), tiny, bound)
    assert 1e-4 < error <= 4 * info.eps
    key = "blocks.1.attn1.to_q.weight"
    weight = stored["blocks.1.self_attn.q.weight"]
    scale = stored["blocks.1.self_attn.q" + names[0]]
    assert component.source.stored_bytes(key) == weight.nbytes + scale.nbytes
    assert component.source.raw(key).nbytes == weight.nbytes + scale.nbytes
    assert torch.equal(component.source.load(key, "cpu", torch.float32), weight.float() * scale)
    assert torch.equal(component.source.load(key, "cpu", torch.bfloat16), (weight.float() * scale).bfloat16())


def test_fp8_scales_per_block_of_a_row(tiny: Tiny, tmp_path: Path) -> None:
    weight = tiny.original["blocks.0.ffn.2.weight"]
    scale = weight.reshape(256, 4, 128).abs().amax(dim=2, keepdim=True) / 448
    data = (weight.reshape(256, 4, 128) / scale).reshape(256, 512).to(torch.float8_e4m3fn)
    stored = tiny.original | {"blocks.0.ffn.2.weight": data, "blocks.0.ffn.2.scale_weight": scale}
    source = open_component(files.save(tmp_path / "a.safetensors", stored), "transformer").source
    expected = (data.float().reshape(256, 4, 128) * scale).reshape(256, 512)
    assert torch.equal(source.load("blocks.0.ffn.net.2.weight", "cpu", torch.float32), expected)


def test_fp8_without_scales(tiny: Tiny, tmp_path: Path) -> None:
    plain = {k: v.to(torch.float8_e4m3fn) if files.big(k, v) else v for k, v in tiny.original.items()}
    model = _loaded(files.save(tmp_path / "a.safetensors", files.prefixed(plain, "model.diffusion_model.")))
    expected = convert_wan_transformer_to_diffusers(dict(plain))
    assert all(torch.equal(value, expected[key].float()) for key, value in model.state_dict().items())


STEPS = {"Q8_0": 127, "Q4_0": 8, "Q5_0": 16, "F16": 2**11, "BF16": 2**8}


@pytest.mark.parametrize("kind", STEPS)
def test_gguf_written_by_the_package(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    path = files.save_gguf(tmp_path / "a.gguf", _arrays(tiny.original), kind)
    model = _loaded(path)

    def bound(weight: torch.Tensor) -> torch.Tensor:
        if kind in ("F16", "BF16") or weight.ndim != 2:
            return weight.abs() / STEPS[kind] + torch.finfo(torch.float16).smallest_normal
        # Half a step of a block of 32; Q4_0 and Q5_0 clip the largest value by one. Scales are half precision.
        steps = 0.5 if kind == "Q8_0" else 1.0
        peak = weight.reshape(-1, 32).abs().amax(dim=1, keepdim=True).expand(-1, 32).reshape(weight.shape)
        return peak / STEPS[kind] * (steps + STEPS[kind] * 2**-11)

    error = _nearby(model, tiny, bound)
    assert error <= 4 / STEPS[kind]
    reader = gguf.GGUFReader(path, mode="c")
    stored = {
        tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type)) for tensor in reader.tensors
    }
    expected = convert_wan_transformer_to_diffusers(stored)
    assert all(torch.equal(value, expected[key].reshape(value.shape)) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_ggml_types_equal_the_packages_own_routines(kind: str) -> None:
    """Blocks of random bits with finite scales, as no quantiser of the package writes the K types."""
    from wan2_i2v.models.formats.packed import Packed, dequantise

    qtype = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    data = np.random.default_rng(7).integers(0, 256, (6, 4 * size), dtype=np.uint8)
    # Clear the top exponent bit of every 16-bit word, so that no half-precision scale is infinite.
    data[:, 1::2] &= 0xBF
    data[:, 0::2] &= 0xBF
    expected = gguf.dequantize(data, qtype)
    packed = Packed(torch.from_numpy(data), kind, (6, 4 * block))
    assert torch.equal(dequantise(packed, torch.float32), torch.from_numpy(expected))
    assert torch.equal(dequantise(packed, torch.bfloat16), torch.from_numpy(expected).bfloat16())
    on_device = decoding.ggml_blocks(packed.data.reshape(-1, size), qtype)
    assert torch.equal(on_device.reshape(6, -1), torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("columns", [256, 255])
def test_fp8_table_equals_arithmetic(dtype: torch.dtype, stored: torch.dtype, columns: int) -> None:
    codes = torch.arange(256, dtype=torch.uint8).repeat(3, 1)[:, :columns].contiguous().view(stored)
    for scale in (None, torch.tensor(0.0123), torch.tensor([3.7])):
        expected = codes.float() if scale is None else codes.float() * scale
        for data in (codes, codes[1:]):
            found = decoding.fp8(data, scale, dtype)
            wanted = expected[-len(data) :].to(dtype)
            assert found.shape == wanted.shape
            assert torch.equal(found.nan_to_num(), wanted.nan_to_num())
            assert torch.equal(found.isnan(), wanted.isnan())


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K"])
def test_gguf_k_types_through_the_transformer(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    qtype = gguf.GGMLQuantizationType[kind]
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "wan")
    expected = {}
    rng = np.random.default_rng(3)
    for key, value in _arrays(tiny.original).items():
        if value.ndim == 2 and key.endswith(".weight"):
            block, size = gguf.GGML_QUANT_SIZES[qtype]
            data = rng.integers(0, 64, (value.shape[0], value.shape[1] // block * size), dtype=np.uint8)
            data[:, 1::2] &= 0x1F
            writer.add_tensor(key, data, raw_dtype=qtype)
            expected[key] = torch.from_numpy(gguf.dequantize(data, qtype))
        else:
            writer.add_tensor(key, value)
            expected[key] = torch.from_numpy(value)
    _finish(writer)
    model = _loaded(path)
    converted = convert_wan_transformer_to_diffusers(expected)
    assert all(torch.equal(value, converted[key]) for key, value in model.state_dict().items())
    assert torch.isfinite(_run(model, tiny.inputs)).all()


def test_gguf_flattened_tensor_gets_its_shape_back(tiny: Tiny, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "wan")
    for key, value in _arrays(tiny.original).items():
        if key == "patch_embedding.weight":
            writer.add_array(f"comfy.gguf.orig_shape.{key}", list(value.shape))
            value = value.reshape(-1, 256)
        writer.add_tensor(key, value)
    _finish(writer)
    assert torch.equal(_run(_loaded(tmp_path / "a.gguf"), tiny.inputs), tiny.output)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_raw_is_the_mapped_file_and_dequantises_apart(tiny: Tiny, tmp_path: Path) -> None:
    source = open_component(files.save(tmp_path / "a.safetensors", tiny.original), "transformer").source
    key = "blocks.0.ffn.net.0.proj.weight"
    first, second = source.raw(key), source.raw(key)
    assert first.data.data_ptr() == second.data.data_ptr()
    assert source.load(key, "cpu", torch.float32).data_ptr() % 64 == 0
    assert source.dequantise(first.to("meta"), torch.bfloat16).is_meta
    assert (source.stored_dtype(key), source.shape(key), source.stored_bytes(key)) == ("F32", (512, 256), 512 * 256 * 4)
    first.data.fill_(3.0)
    again = open_component(tmp_path / "a.safetensors", "transformer").source
    assert torch.equal(again.raw(key).data, tiny.diffusers[key])


def test_closed_source_leaves_read_weights_alive(tiny: Tiny, tmp_path: Path) -> None:
    for path in (
        files.save(tmp_path / "a.safetensors", tiny.original),
        files.save_gguf(tmp_path / "a.gguf", _arrays(tiny.original), "F32"),
        _torch_save(tmp_path / "a.pth", tiny.original),
    ):
        source = open_component(path, "transformer").source
        raw = source.raw("proj_out.weight")
        source.close()
        assert torch.equal(raw.data, tiny.diffusers["proj_out.weight"])


def test_half_precision_load_keeps_what_diffusers_keeps(tiny: Tiny, tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    theirs = WanTransformer3DModel.from_pretrained(tiny.folder, torch_dtype=torch.bfloat16)
    ours = _loaded(tiny.folder, torch.bfloat16)
    assert {k: v.dtype for k, v in ours.state_dict().items()} == {k: v.dtype for k, v in theirs.state_dict().items()}
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())
    assert compute_dtype(ours, "blocks.0.norm2.weight", torch.bfloat16) is torch.float32
    assert torch.equal(ours.rope.freqs_cos, theirs.rope.freqs_cos)


def test_every_wrong_key_is_in_one_error(tiny: Tiny, tmp_path: Path) -> None:
    wrong = dict(tiny.original)
    del wrong["blocks.1.ffn.0.bias"]
    wrong["blocks.0.extra.weight"] = torch.zeros(2)
    wrong["head.head.bias"] = torch.zeros(60)
    with pytest.raises(CheckpointError) as raised:
        open_component(files.save(tmp_path / "a.safetensors", wrong), "transformer")
    message = str(raised.value)
    assert "1 missing (blocks.1.ffn.net.0.proj.bias)" in message
    assert "1 unexpected (blocks.0.extra.weight)" in message
    assert "1 of another shape (proj_out.bias is (60,), not (64,))" in message


def test_long_lists_are_cut_with_their_count(tiny: Tiny, tmp_path: Path) -> None:
    half = {key: value for key, value in tiny.original.items() if not key.startswith("blocks.0.")}
    with pytest.raises(CheckpointError, match=r"27 missing \(.*, … and 17 more\)"):
        open_component(files.save(tmp_path / "a.safetensors", half), "transformer")


def test_unreadable_encodings_are_named(tiny: Tiny, tmp_path: Path) -> None:
    int8 = tiny.original | {
        "blocks.0.ffn.0.weight": torch.zeros(512, 256, dtype=torch.int8),
        "blocks.0.ffn.0.weight_scale": torch.ones(512, 1),
    }
    with pytest.raises(CheckpointError, match=r"I8 \(blocks.0.ffn.0.weight\), which cannot be read"):
        open_component(files.save(tmp_path / "a.safetensors", int8), "transformer")
