"""The documentation agrees with the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plans import plan
from wan2_i2v.doors.cli import grid_page, reference
from wan2_i2v.doors.http import reference as http_page
from wan2_i2v.errors import Wan2I2VError
from wan2_i2v.presets import RECIPES
from wan2_i2v.request import is_guided
from wan2_i2v.schedule import sigmas

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_command_line_page_is_fresh():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run: make docs"


def test_the_tables_of_the_memory_page_are_fresh():
    page = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    assert page == grid_page.renewed(page), "run: make docs"


def test_the_tables_of_the_http_page_are_fresh():
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    assert page == http_page.renewed(page), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_exist(page):
    known = reference.page()
    for line in page.read_text(encoding="utf-8").splitlines():
        for command, rest in re.findall(r"wan2-i2v ([a-z]+(?:-[a-z]+)*)\b([^`#]*)", line):
            if line.startswith("    ") or f"`wan2-i2v {command}" in line:
                assert f"## `wan2-i2v {command}`" in known, line
                assert [flag for flag in re.findall(r"--[a-z-]+", rest) if flag not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        assert compile(block, str(page), "exec").co_code


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_the_recipes_page_has_the_numbers(recipe):
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    steps = plan(recipe=recipe.name).steps
    calls = sum(2 if is_guided(step.guidance_scale) else 1 for step in steps)
    guidance = f"{recipe.guidance_scale_high:g} / {recipe.guidance_scale_low:g}"
    row = (f"`{recipe.name}`", recipe.sampler, recipe.scheduler, f"{recipe.flow_shift:g}", len(steps), guidance, calls)
    assert f"| {' | '.join(map(str, row))} | " in page
    levels = [f"{step.sigma:.4f}" for step in steps]
    told = levels if len(levels) < 10 else [*levels[:2], "…", levels[-1]]
    high = [step.expert for step in steps].count("high")
    assert f"| `{recipe.name}` | {', '.join(told)} | {high} + {len(steps) - high} |" in page


def test_the_recipes_page_knows_how_long_the_first_phase_is():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    recipe = RECIPES["three-phase"]
    assert recipe.plain_from is not None and f"σ ≥ {recipe.plain_from}" in page

    def plain(steps):
        return sum(sigma >= recipe.plain_from for sigma in sigmas(recipe.scheduler, recipe.flow_shift, steps))

    one, two = map(int, re.findall(r"up to (\d+) steps it is one, from (\d+) two", page)[0])
    assert [plain(4), plain(one), plain(two)] == [1, 1, 2] and two == one + 1


def test_the_quickstart_lists_every_exit_code():
    def codes(cls):
        below = [sub for sub in cls.__subclasses__() if sub.__module__ == cls.__module__]
        return {cls.exit_code}.union(*(codes(sub) for sub in below))

    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert all(re.search(rf"\| {code} \|", page) for code in codes(Wan2I2VError))
