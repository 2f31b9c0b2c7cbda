"""`wan2-i2v presets` and `prompt`, run in this process: presets checked as they stand, and what is refused."""

from __future__ import annotations

import json

import pytest

from wan2_i2v.doors.cli import main


def test_presets(capsys):
    assert main(["presets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [recipe["name"] for recipe in listed["recipes"]] == ["rapid", "lightx2v", "three-phase", "official"]
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    assert all(preset["name"] in text for preset in listed["prompts"])


def test_prompt_checks_a_preset_in_its_own_words(capsys):
    assert main(["prompt", "--preset", "fireworks:verbatim", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["negative_prompt"].endswith("no fireworks, static sky")  # nothing is added to what is only checked
    assert "double-negation" in {finding["rule"] for finding in told["findings"]}
    assert main(["prompt", "--preset", "fireworks"]) == 0
    assert "no findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--preset"),
        (("The boat sails.", "--preset", "fireworks"), "one of them"),
        (("--preset", "firework"), "Did you mean 'fireworks'?"),
        (("--subject", "a cat"), "action"),
    ],
)
def test_prompt_refuses_what_is_no_one_prompt(arguments, words, capsys):
    assert main(["prompt", *arguments]) == 2
    assert words in capsys.readouterr().err
