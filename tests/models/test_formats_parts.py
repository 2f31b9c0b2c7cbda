"""VAE, text encoder, tokenizer and the all-in-one file, made from tiny weights."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path
from types import ModuleType

import format_files as files
import pytest
import sentencepiece
import torch
from diffusers import AutoencoderKLWan
from transformers import UMT5Config, UMT5EncoderModel

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats import keys
from wan2_i2v.models.formats.identify import identify
from wan2_i2v.models.formats.opening import load, open_component
from wan2_i2v.models.formats.tokenizer import stored_tokenizer, tokenizer_from_bytes

WIDTH, HEADS = 32, 4


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=8).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def text_encoder() -> UMT5EncoderModel:
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=300, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=HEADS, feed_forward_proj="gated-gelu"
    )
    return UMT5EncoderModel(config).eval().requires_grad_(False)


def original_vae(vae: AutoencoderKLWan) -> dict[str, torch.Tensor]:
    """The VAE's weights under the names of `Wan2.1_VAE.pth`, found by asking diffusers' converter about every name."""
    inner = ["residual.0.gamma", "residual.3.gamma"]
    inner += [
        f"{at}.{kind}" for at in ("residual.2", "residual.6", "shortcut", "resample.1", "time_conv") for kind in W_B
    ]
    names = [f"{side}.{end}" for side, end in product(("encoder", "decoder"), ENDS)]
    names += [f"encoder.downsamples.{index}.{end}" for index, end in product(range(11), inner)]
    names += [f"decoder.upsamples.{index}.{end}" for index, end in product(range(15), inner)]
    names += [f"{side}.middle.{at}.{end}" for side, at, end in product(("encoder", "decoder"), (0, 2), inner)]
    names += [f"conv{at}.{kind}" for at, kind in product((1, 2), W_B)]
    state = vae.state_dict()
    found = {original: state[new] for new, original in keys.vae_keys(names).items() if new in state}
    assert len(found) == len(state)
    return found


W_B = ("weight", "bias")
ENDS = [f"{at}.{kind}" for at in ("conv1", "head.2", "middle.1.to_qkv", "middle.1.proj") for kind in W_B]
ENDS += ["head.0.gamma", "middle.1.norm.gamma"]


def original_umt5(model: UMT5EncoderModel) -> dict[str, torch.Tensor]:
    """The encoder's weights under the names of `models_t5_umt5-xxl-enc-bf16.pth` (Wan2.2's wan/modules/t5.py)."""
    state = model.state_dict()
    out = {"token_embedding.weight": state["shared.weight"], "norm.weight": state["encoder.final_layer_norm.weight"]}
    for index in range(model.config.num_layers):
        attention, ffn = f"encoder.block.{index}.layer.0.", f"encoder.block.{index}.layer.1."
        block = {f"attn.{x}": f"{attention}SelfAttention.{x}" for x in "qkvo"} | {
            "norm1": f"{attention}layer_norm",
            "norm2": f"{ffn}layer_norm",
            "ffn.gate.0": f"{ffn}DenseReluDense.wi_0",
            "ffn.fc1": f"{ffn}DenseReluDense.wi_1",
            "ffn.fc2": f"{ffn}DenseReluDense.wo",
            "pos_embedding.embedding": f"{attention}SelfAttention.relative_attention_bias",
        }
        out |= {f"blocks.{index}.{old}.weight": state[f"{new}.weight"] for old, new in block.items()}
    return out


@pytest.fixture(scope="module")
def spiece() -> bytes:
    """A SentencePiece model with UMT5's special ids: pad 0, end 1, start 2, unknown 3."""
    text = [
        "a cat walks slowly along the beach",
        "waves roll in, the camera pans",
        "чайка летит над морем",
        "海边日落",
    ] * 3
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=written, vocab_size=80, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return written.getvalue()


def _as_tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["diffusers folder", "original", "pth", "prefixed", "half"])
def test_vae_forms(kind: str, vae: AutoencoderKLWan, tmp_path: Path) -> None:
    original, path = original_vae(vae), tmp_path / "a.safetensors"
    if kind == "diffusers folder":
        path = tmp_path / "vae"
        vae.save_pretrained(path)
    elif kind == "pth":
        path = tmp_path / "a.pth"
        torch.save(original, path)
    elif kind == "half":
        files.save(path, {key: value.bfloat16() for key, value in original.items()})
    else:
        files.save(path, files.prefixed(original, "first_stage_model." if kind == "prefixed" else ""))
    loaded = load(open_component(path, "vae"), "cpu", torch.float32)
    expected = {k: v.bfloat16().float() if kind == "half" else v for k, v in vae.state_dict().items()}
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert loaded.config["latents_mean"] == vae.config["latents_mean"]
    if kind == "original":
        frames = torch.linspace(-1, 1, 3 * 5 * 8 * 8).view(1, 3, 5, 8, 8)
        assert torch.equal(loaded.encode(frames).latent_dist.mean, vae.encode(frames).latent_dist.mean)


@pytest.mark.parametrize("kind", ["folder", "file", "embed_tokens only", "original pth", "original", "prefixed", "fp8"])
def test_text_encoder_forms(kind: str, text_encoder: UMT5EncoderModel, spiece: bytes, tmp_path: Path) -> None:
    path = _write_text_encoder(kind, text_encoder, spiece, tmp_path)
    component = open_component(path, "text_encoder")
    loaded = load(component, "cpu", torch.float32)
    assert loaded.encoder.embed_tokens.weight is loaded.shared.weight
    theirs = text_encoder.state_dict()
    if kind == "fp8":
        for key in component.source.keys():  # noqa: SIM118
            bound = theirs[key].abs() * 2**-4 * 1.001 + theirs[key].abs().max() / 448 * 2**-10
            assert ((component.source.load(key, "cpu", torch.float32) - theirs[key]).abs() <= bound).all()
        return
    assert all(torch.equal(value, theirs[key]) for key, value in loaded.state_dict().items())
    ids = torch.tensor([[5, 17, 250, 1, 0, 0]])
    mask = (ids > 0).long()
    assert torch.equal(loaded(ids, mask).last_hidden_state, text_encoder(ids, mask).last_hidden_state)


def _write_text_encoder(kind: str, model: UMT5EncoderModel, spiece: bytes, folder: Path) -> Path:
    path = folder / "a.safetensors"
    state = {key: value for key, value in model.state_dict().items() if key != "encoder.embed_tokens.weight"}
    if kind == "folder":
        model.save_pretrained(folder / "text_encoder")
        return folder / "text_encoder"
    if kind == "original pth":
        torch.save(original_umt5(model), folder / "a.pth")
        return folder / "a.pth"
    weights = {
        "file": state | {"spiece_model": _as_tensor(spiece)},
        "embed_tokens only": {k.replace("shared.", "encoder.embed_tokens."): v for k, v in state.items()},
        "original": original_umt5(model),
        "prefixed": files.prefixed(state, "text_encoders.umt5xxl.transformer.")
        | {"text_encoders.spiece_model": _as_tensor(spiece)},
        "fp8": dict(files.fp8(state, torch.float8_e4m3fn)) | {"spiece_model": _as_tensor(spiece)},
    }[kind]
    return files.save(path, weights)


def test_damaged_pth_is_refused(text_encoder: UMT5EncoderModel, tmp_path: Path) -> None:
    torch.save(original_umt5(text_encoder), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cut short or holds code"):
        open_component(tmp_path / "cut.pth", "text_encoder")
    torch.save({"model": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "state.pth")
    with pytest.raises(CheckpointError, match="more than tensors"):
        open_component(tmp_path / "state.pth", "text_encoder")
    torch.save({"a": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="cannot be read as plain weights"):
        open_component(tmp_path / "code.pth", "text_encoder")


PROMPTS = ["A cat walks.", "  двойной  пробел ", "海边日落 unseen: żółć", ""]


def test_stored_tokenizer_gives_the_models_own_ids(
    spiece: bytes, text_encoder: UMT5EncoderModel, tmp_path: Path
) -> None:
    tokenizer = stored_tokenizer(_write_text_encoder("file", text_encoder, spiece, tmp_path))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=spiece)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 3)
    for prompt in PROMPTS:
        assert tokenizer(prompt).input_ids == [*theirs.encode(prompt), 1]
    batch = tokenizer(
        PROMPTS, padding="max_length", max_length=12, truncation=True, add_special_tokens=True,
        return_attention_mask=True, return_tensors="pt",
    )  # fmt: skip
    assert batch.input_ids.shape == batch.attention_mask.shape == (4, 12)
    for prompt, row, mask in zip(PROMPTS, batch.input_ids.tolist(), batch.attention_mask.tolist(), strict=True):
        ids = [*theirs.encode(prompt)[:11], 1]
        assert row == ids + [0] * (12 - len(ids))
        assert mask == [1] * len(ids) + [0] * (12 - len(ids))
    assert tokenizer.decode(tokenizer("a cat walks").input_ids, skip_special_tokens=True) == "a cat walks"


def test_missing_and_damaged_tokenizers_are_named(
    text_encoder: UMT5EncoderModel, spiece: bytes, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="carries no tokenizer"):
        stored_tokenizer(_write_text_encoder("original", text_encoder, spiece, tmp_path))
    with pytest.raises(CheckpointError, match="is damaged"):
        tokenizer_from_bytes(b"not a model", tmp_path)


def test_all_in_one_file(
    tiny_wan: ModuleType, vae: AutoencoderKLWan, text_encoder: UMT5EncoderModel, spiece: bytes, tmp_path: Path
) -> None:
    expert = {key: torch.from_numpy(value) for key, value in tiny_wan.expert("high").items()}
    encoder = {key: value for key, value in text_encoder.state_dict().items() if key != "encoder.embed_tokens.weight"}
    path = files.save(
        tmp_path / "rapid.safetensors",
        files.prefixed(files.fp8(expert, torch.float8_e4m3fn), "model.diffusion_model.")
        | files.prefixed(files.fp8(encoder, torch.float8_e4m3fn), "text_encoders.umt5xxl.transformer.")
        | {"text_encoders.spiece_model": _as_tensor(spiece), "text_encoders.umt5xxl.logit_scale": torch.zeros(())}
        | files.prefixed(original_vae(vae), "vae."),
    )
    identity = identify(path)
    assert identity.parts == ("text_encoder", "transformer", "vae")
    assert identity.title == "an all-in-one checkpoint of a Wan2.2 I2V A14B expert"
    counted = {"transformer": expert, "text_encoder": encoder, "vae": vae.state_dict()}
    assert identity.weights == {part: sum(v.numel() for v in state.values()) for part, state in counted.items()}
    assert identity.configs["vae"] == {"base_dim": 8, "z_dim": 16}
    loaded = load(open_component(path, "vae"), "cpu", torch.float32)
    assert all(torch.equal(value, vae.state_dict()[key]) for key, value in loaded.state_dict().items())
    transformer = open_component(path, "transformer")
    assert transformer.config["num_layers"] == 2
    assert transformer.source.stored_dtype("blocks.0.attn1.to_q.weight") == "F8_E4M3"
    source = open_component(path, "text_encoder").source
    for key in source.keys():  # noqa: SIM118
        assert (source.load(key, "cpu", torch.float32) - encoder[key]).abs().max() <= encoder[key].abs().max() / 16
    assert stored_tokenizer(path)("a cat").input_ids[-1] == 1
