"""The gallery, the details of a result and the comparison, in Chromium against a double of the server."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from page_browser import add
from page_double import Double


def test_search_finds_prompts_and_more_can_be_shown(page: Page, server: Double) -> None:
    for index in range(26):
        add(server, f"boat-{index}", prompt=f"The boat number {index} rocks.")
        server.jobs[f"boat-{index}"]["state"] = "done"
    page.reload()
    expect(page.locator(".result")).to_have_count(24)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".result")).to_have_count(26)
    page.fill("#search", "number 13")
    expect(page.locator(".result")).to_have_count(1)
    page.fill("#search", "zebra")
    expect(page.get_by_text("No video's prompt has these words.")).to_be_visible()


def test_details_show_the_verdict_and_every_setting(page: Page, server: Double) -> None:
    add(server, "boat-1", negative_prompt="talking")
    server.finish("boat-1", passed=False)
    page.get_by_role("button", name="Open boat-1").click()
    sheet = page.locator("#details")
    expect(sheet).to_contain_text("1 check failed")
    expect(sheet).to_contain_text("the picture moves")
    expect(sheet.locator(".table").first).to_contain_text("NAG")
    expect(sheet.locator(".table").first).to_contain_text("Noise levels")
    expect(sheet.locator(".table").last).to_contain_text("1.50 s")
    expect(sheet.get_by_role("link", name="Download", exact=True)).to_have_attribute(
        "href", "/api/jobs/boat-1/video?download=1"
    )
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(page.get_by_role("button", name="Open boat-1")).to_be_focused()
    page.get_by_role("button", name="Open boat-1").click()
    sheet.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#negative_prompt")).to_have_value("talking")
    expect(page.locator("#field-seed")).to_have_value("7")
    expect(page.locator("[data-plan=size]")).to_have_text("96 × 64")


TIMES = (
    "() => [...document.querySelectorAll('#compare video')].map((one) => [one.currentTime, one.paused, one.duration])"
)


def test_up_to_four_videos_play_pause_and_move_as_one(page: Page, server: Double) -> None:
    for index, seconds in enumerate((2.0, 3.0, 3.0, 3.0, 3.0)):
        add(server, f"boat-{index}", seed=index)
        server.finish(f"boat-{index}", seconds=seconds)
    for index in range(4):
        page.get_by_label(f"Compare boat-{index}").check()
    expect(page.get_by_label("Compare boat-4")).to_be_disabled()
    page.get_by_role("button", name="Compare", exact=True).click()
    sheet = page.locator("#compare")
    expect(sheet.locator("video")).to_have_count(4)
    expect(sheet.locator("output")).to_have_text("0.00 of 3.00 s")
    expect(sheet.locator("table")).to_contain_text("Seed")

    page.locator("#compare input[type=range]").evaluate(
        "(one) => { one.value = 1; one.dispatchEvent(new Event('input')); }"
    )
    expect(sheet.locator("output")).to_have_text("1.00 of 3.00 s")
    assert [round(time, 2) for time, _, _ in page.evaluate(TIMES)] == [1.0] * 4
    sheet.get_by_role("button", name="One frame on").click()
    assert {round(time * 24) for time, _, _ in page.evaluate(TIMES)} == {25}

    sheet.get_by_label("Speed").select_option("0.25")
    sheet.get_by_role("button", name="Play").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#compare video')].every((one) => one.currentTime > 1.1)"
    )
    playing = page.evaluate(TIMES)
    assert not any(paused for _, paused, _ in playing)
    sheet.get_by_role("button", name="Pause").click()
    stopped = page.evaluate(TIMES)
    assert all(paused for _, paused, _ in stopped)
    assert max(time for time, _, _ in stopped) - min(time for time, _, _ in stopped) < 0.002

    sheet.locator("input[type=range]").evaluate("(one) => { one.value = 2.5; one.dispatchEvent(new Event('input')); }")
    short, *long = sorted(time for time, _, _ in page.evaluate(TIMES))
    assert short == pytest.approx(2.0, abs=0.01)
    assert long == pytest.approx([2.5] * 3, abs=0.01)
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
