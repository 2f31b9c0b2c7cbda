"""Who may use the page and how: token, keyboard, screen reader, phone, light and dark."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import page_browser
from page_browser import BOAT, TEXT, add, add_boat
from page_double import Double


def test_a_server_with_a_token_asks_for_it(page: Page, server: Double) -> None:
    page.watch.expected = ("Failed to load resource",)
    server.token = "open-sesame"
    page.reload()
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_have_text("the token is wrong.")
    page.get_by_label("Token").fill("open-sesame")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    add_boat(page)


def test_the_keyboard_alone_submits(page: Page, server: Double) -> None:
    # Chromium is told to hand over file choosers without waiting for its answer: told now, it has heard by then.
    page.on("filechooser", lambda _: None)
    expect(page.locator("#field-num_frames")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the form")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#choose")).to_be_focused()
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    choosing.value.set_files(BOAT)
    expect(page.locator("[data-plan=size]")).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id") == "prompt":
            page.keyboard.type(TEXT)
        if page.evaluate("() => document.activeElement.type") == "submit":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#queue .job")).to_have_count(1)
    (made,) = server.jobs.values()
    assert made["plan"]["prompt"] == TEXT


def test_the_keyboard_alone_rates_and_the_screen_reader_is_told(page: Page, server: Double) -> None:
    add(server, "boat-1")
    server.finish("boat-1")
    page.get_by_role("button", name="Open boat-1").focus()
    page.keyboard.press("Enter")
    rating = page.locator("#details").get_by_role("group", name="Rating of boat-1")
    expect(rating.get_by_role("radio")).to_have_count(5)
    tab_to(page, "rated-boat-1")
    page.keyboard.press("Space")
    for stars in (1, 2, 3, 4):
        expect(rating.get_by_role("radio", name=f"{stars} of 5")).to_be_checked()
        # Outside of the dialog nothing is read out while it is open.
        expect(page.locator("#details [role=status]")).to_have_text(f"Rated {stars} of 5.")
        # Whoever is at the stars stays there while the server is told.
        expect(rating.get_by_role("radio", name=f"{stars} of 5")).to_be_focused()
        assert server.jobs["boat-1"]["rating"] == stars
        page.keyboard.press("ArrowRight")
    expect(rating.locator("label.on")).to_have_count(5)
    page.keyboard.press("Escape")
    page.reload()
    expect(page_browser.result(page, "boat-1").locator(".stars label.on")).to_have_count(5)
    page.get_by_role("button", name="Open boat-1").click()
    expect(rating.get_by_role("radio", name="5 of 5")).to_be_checked()


def test_of_ratings_chosen_in_haste_the_last_one_stays_and_a_refused_one_goes(page: Page, server: Double) -> None:
    add(server, "boat-1")
    server.finish("boat-1")
    page.get_by_role("button", name="Open boat-1").click()
    stars = page.locator("#details").get_by_role("radio")
    expect(stars).to_have_count(5)
    server.slow = 0.3
    stars.first.focus()
    for key in ("Space", *["ArrowRight"] * 4, "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#details [role=status]")).to_have_text("Rated 4 of 5.")
    assert server.jobs["boat-1"]["rating"] == 4
    expect(page.locator("#details .stars label.on")).to_have_count(4)

    page.watch.expected = ("Failed to load resource",)
    del server.jobs["boat-1"]
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#details [role=status]")).to_have_text("no job boat-1.")
    expect(page.locator("#details .stars label.on")).to_have_count(4)
    expect(stars.nth(3)).to_be_checked()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control of that name has the focus."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.name") == name:
            return
    raise AssertionError(f"no Tab leads to {name}")


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(stream, "PNG")
    return stream.getvalue()


LOOKS = [
    {"color_scheme": scheme, "viewport": window}
    for scheme in ("light", "dark")
    for window in (page_browser.DESKTOP, page_browser.PHONE)
]


@pytest.mark.parametrize("page", LOOKS, indirect=True, ids=("light", "light-phone", "dark", "dark-phone"))
def test_nothing_is_inaccessible_or_too_wide(page: Page, server: Double) -> None:
    page.watch.expected = ("Failed to load resource",)
    assert page_browser.trespasses(page) == []
    for index in range(5):
        add(server, f"a-rather-long-name-of-a-picture-{index}", prompt=TEXT * 4, seed=index)
    for index, passed in enumerate((True, False)):
        server.finish(f"a-rather-long-name-of-a-picture-{index}", passed=passed)
    server.jobs["a-rather-long-name-of-a-picture-0"]["rating"] = 3
    server.move("a-rather-long-name-of-a-picture-2", "running")
    server.move("a-rather-long-name-of-a-picture-3", "failed", error={"code": "e", "message": "out of memory. " * 9})
    add_boat(page)
    page.set_input_files("#choose", {"name": "tall.png", "mimeType": "image/png", "buffer": png(64, 256)})
    page.fill("#prompt", "boat, waves, sunset, beautiful, cinematic, 8k")
    expect(page.locator("#prompt-hints")).to_be_visible()
    page.evaluate("() => document.querySelectorAll('#create details').forEach((one) => (one.open = true))")
    page.fill("#field-crf", "62")
    expect(page.locator("#field-crf-error")).to_be_visible()
    assert page_browser.trespasses(page) == []
    assert page_browser.overflow(page) <= 0
    page.get_by_role("button", name="Open a-rather-long-name-of-a-picture-1").click()
    expect(page.locator("#details .table").first).to_contain_text("Noise levels")
    assert page_browser.trespasses(page) == []
    page.keyboard.press("Escape")
    for box in page.locator(".result input[type=checkbox]").all():
        box.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare output")).to_have_text("0.00 of 1.00 s")
    assert page_browser.trespasses(page) == []
    assert page_browser.overflow(page) <= 0


def test_the_theme_is_chosen_and_kept(page: Page) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: as the system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) == dark
