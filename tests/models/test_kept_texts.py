"""Text embeddings on disk: found again, never stale, never damaged, bounded, shared by processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wan2_i2v.models import kept_texts
from wan2_i2v.rows import ModelFiles
from wan2_i2v.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WAN2_I2V_CACHE", str(tmp_path / "cache"))
    return Settings().cache / "texts"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_kept_is_found_bit_for_bit(dtype):
    embeds = torch.randn(1, 7, 32).to(dtype)
    kept_texts.keep("encoder", "a prompt", embeds)
    found = kept_texts.find("encoder", "a prompt")
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, embeds)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=20)), min_size=2, max_size=6, unique=True))
def test_no_two_encoders_or_prompts_share_an_entry(keys):
    for number, (identity, prompt) in enumerate(keys):
        kept_texts.keep(identity, prompt, torch.full((1, 1, 2), float(number)))
    for number, (identity, prompt) in enumerate(keys):
        found = kept_texts.find(identity, prompt)
        assert found is not None
        assert found[0, 0, 0] == number


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_entry_is_no_entry(folder, damage):
    kept_texts.keep("encoder", "prompt", torch.ones(1, 3, 4))
    (path,) = entries(folder)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    path.write_bytes({"cut": content[:-5], "flip": content, "empty": b"", "other": b"not an entry at all"}[damage])
    assert kept_texts.find("encoder", "prompt") is None
    kept_texts.keep("encoder", "prompt", torch.ones(1, 3, 4))
    assert kept_texts.find("encoder", "prompt") is not None


def test_the_least_recently_used_entries_go_first(folder, monkeypatch):
    embeds = torch.zeros(1, 10, 100)
    for number in range(4):
        kept_texts.keep("encoder", str(number), embeds)
    for age, path in enumerate(entries(folder)):
        os.utime(path, (1000 + age, 1000 + age))
    assert kept_texts.find("encoder", "0") is not None, "a use makes it the newest"
    monkeypatch.setattr(kept_texts, "MOST_BYTES", 3 * entries(folder)[0].stat().st_size)
    kept_texts.keep("encoder", "new", embeds)
    assert len(entries(folder)) == 3
    assert kept_texts.find("encoder", "0") is not None
    assert kept_texts.find("encoder", "new") is not None


def test_many_writers_and_readers_at_once_see_whole_entries(folder, monkeypatch):
    monkeypatch.setattr(kept_texts, "MOST_BYTES", 20_000)

    def work(number: int) -> bool:
        prompt = str(number % 5)
        expected = torch.full((1, 8, 128), float(number % 5))
        kept_texts.keep("encoder", prompt, expected)
        found = kept_texts.find("encoder", prompt)
        return found is None or torch.equal(found, expected)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(60)))
    assert all(path.suffix == ".embeds" for path in entries(folder))


def test_the_identity_follows_weights_tokenizer_dtype_and_device(checkpoint: Path, tmp_path: Path):
    import shutil

    import checkpoints

    files = ModelFiles.in_folder(checkpoint)
    base = kept_texts.encoder_identity(files, "float32", "cpu")
    assert kept_texts.encoder_identity(files, "float32", "cpu") == base
    assert kept_texts.encoder_identity(files, "float32", "cuda:1") == kept_texts.encoder_identity(
        files, "float32", "cuda:0"
    )
    other_tokenizer = tmp_path / "tokenizer"
    shutil.copytree(checkpoint / "tokenizer", other_tokenizer)
    (other_tokenizer / "tokenizer_config.json").write_text("{}")
    other_weights = ModelFiles.in_folder(checkpoints.write(tmp_path / "other", seed=1))
    identities = {
        base,
        kept_texts.encoder_identity(files, "bfloat16", "cpu"),
        kept_texts.encoder_identity(files, "float32", "cuda:0"),
        kept_texts.encoder_identity(files.model_copy(update={"tokenizer": other_tokenizer}), "float32", "cpu"),
        kept_texts.encoder_identity(
            files.model_copy(update={"text_encoder": other_weights.text_encoder}), "float32", "cpu"
        ),
    }
    assert len(identities) == 5
