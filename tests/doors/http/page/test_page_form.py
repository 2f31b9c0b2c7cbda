"""The form and the plan beside it, in Chromium against a double of the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import page_browser
from page_browser import BOAT, HOUSE, add_boat
from page_double import Double


def test_an_empty_page_says_what_to_do(page: Page) -> None:
    expect(page.get_by_text("Nothing to plan yet")).to_be_visible()
    expect(page.get_by_text("Nothing is waiting.")).to_be_visible()
    expect(page.get_by_text("No videos yet.")).to_be_visible()
    page.get_by_role("button", name="Make video").click()
    expect(page.locator(".toast")).to_have_text("Add a picture first.")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_pictures_that_are_dropped_or_pasted_become_one_job_each(page: Page, server: Double, how: str) -> None:
    expect(page.locator("#field-num_frames")).to_have_value("72")
    page_browser.give(page, {"boat.png": BOAT.read_bytes(), "house.png": HOUSE.read_bytes()}, how)
    page.get_by_role("button", name="Make 2 videos").click()
    expect(page.locator("#queue .job")).to_have_count(2)
    assert [name.rsplit("-", 1)[0] for name in server.jobs] == ["boat", "house"]
    assert {one["state"] for one in server.jobs.values()} == {"queued"}


def test_the_plan_follows_the_settings(page: Page, server: Double) -> None:
    add_boat(page)
    expect(page.locator("[data-plan=duration]")).to_have_text("3.000 s")
    expect(page.locator("[data-plan=memory]")).to_contain_text("of 24.0 GiB")
    expect(page.locator("[data-plan=time]")).to_contain_text("a rough estimate")
    expect(page.locator("[data-plan=guidance]")).to_contain_text("NAG (scale 11")
    page.fill("#field-num_frames", "50")
    expect(page.locator("[data-plan=duration]")).to_have_text("2.083 s")
    expect(page.locator(".warnings")).to_contain_text("the file gets exactly 50")
    page.get_by_text("Guidance", exact=True).first.click()
    page.fill("#field-guidance_scale_high", "3.5")
    expect(page.locator("[data-plan=guidance]")).to_contain_text("CFG 3.5")
    page.get_by_label("Mouths may move").check()
    expect(page.locator("[data-plan=guidance]")).not_to_contain_text("NAG")
    page.get_by_role("button", name="96 × 64").click()
    expect(page.locator("[data-plan=size]")).to_have_text("96 × 64")
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#queue .job")).to_have_count(1)
    (made,) = server.jobs.values()
    assert made["settings"] == {"width": 96, "height": 64, "num_frames": 50, "guidance_scale_high": 3.5} | {
        "allow_speech": True
    }


def test_a_refusal_stands_next_to_its_field_even_in_a_folded_section(page: Page) -> None:
    page.watch.expected = ("Failed to load resource",)
    add_boat(page)
    page.get_by_text("File", exact=True).click()
    page.fill("#field-crf", "60")
    page.get_by_text("File", exact=True).click()
    expect(page.locator("#field-crf-error")).to_contain_text("0 to 51 for mp4")
    expect(page.locator("#field-crf")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#field-crf")).to_be_focused()
    page.fill("#field-crf", "20")
    expect(page.locator("#field-crf-error")).to_be_hidden()
    expect(page.locator("[data-plan=size]")).to_be_visible()


def test_presets_fill_the_form_and_hints_say_what_to_write_instead(page: Page) -> None:
    add_boat(page)
    page.fill("#prompt", "boat, waves, sunset, beautiful, cinematic, 8k")
    expect(page.locator("#prompt-hints")).to_contain_text("6 keywords between commas")
    preset = page.get_by_role("button", name=re.compile("Fireworks"))
    preset.click()
    expect(preset).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#prompt")).to_have_value(re.compile("fireworks burst"))
    expect(page.locator("[data-plan=duration]")).to_have_text("5.000 s")
    expect(page.locator("[data-plan=guidance]")).to_contain_text("NAG")


def test_a_picture_to_end_with_is_planned_sent_kept_and_removed(page: Page, server: Double) -> None:
    add_boat(page)
    page.set_input_files("#choose-last", HOUSE)
    ends = page.locator(".strip li").last.get_by_text("The clip ends with this picture")
    expect(ends).to_be_visible()
    # What is still being sent when a page is left is not there afterwards.
    expect(page.locator(".strip li").last).to_contain_text("256 × 256")
    page.reload()
    expect(ends).to_be_visible()
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#queue .job")).to_have_count(1)
    (made,) = server.jobs.values()
    assert server.pictures[made["last_picture"]].read_bytes() == HOUSE.read_bytes()
    page.get_by_role("button", name="Remove house.png").click()
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#queue .job")).to_have_count(2)
    assert [job["last_picture"] is None for job in server.jobs.values()] == [False, True]


def test_advice_for_the_picture_can_be_taken(page: Page) -> None:
    add_boat(page)
    page.get_by_text("Advice for this picture").click()
    page.get_by_role("button", name="Take 81 frames").click()
    expect(page.locator("#field-num_frames")).to_have_value("81")
    expect(page.locator(".advice")).to_have_count(0)


def test_a_picture_that_cannot_be_used_says_why(page: Page, tmp_path: Path) -> None:
    page.watch.expected = ("Failed to load resource",)
    broken, large = tmp_path / "broken.png", tmp_path / "large.png"
    broken.write_bytes(b"no picture")
    large.write_bytes(bytes(2**20 + 1))
    page.set_input_files("#choose", [broken, large])
    expect(page.locator(".strip .error").first).to_have_text("this is not a picture.")
    expect(page.locator(".strip .error").last).to_contain_text("1.0 MiB is more than the 1.0 MiB")
    page.get_by_role("button", name="Remove broken.png").click()
    expect(page.locator(".strip li")).to_have_count(1)
