"""The web page in Chromium against the real server, with mini at its smallest: from a dropped picture to a verified video."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Response, expect

import page_browser
from page_browser import BOAT, HOUSE, TEXT
from servers import LiveServer, serving

LONG_MS = 240_000
"""Patience with a computing server; how long it takes is not asserted."""
SLOW = {"width": "288", "height": "192", "num_frames": "49", "num_inference_steps": "40"}
SMALL = {"width": "64", "height": "64", "num_frames": "5"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[LiveServer]:
    with serving(tmp_path_factory.mktemp("served"), "mini") as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: LiveServer) -> Iterator[Page]:
    with page_browser.watched(browser, server.url) as opened:
        opened.set_default_timeout(LONG_MS)
        opened.goto(server.url)
        ready(opened)
        yield opened


def ready(page: Page) -> None:
    """The server has answered and the form is there."""
    expect(page.locator("#field-num_frames")).to_have_value("72", timeout=LONG_MS)


def fill(page: Page, settings: dict[str, str], prompt: str = TEXT) -> None:
    page.evaluate("() => document.querySelectorAll('#create details').forEach((one) => (one.open = true))")
    page.fill("#prompt", prompt)
    for name, value in settings.items():
        page.fill(f"#field-{name}", value)


def make(page: Page, settings: dict[str, str], prompt: str = TEXT) -> str:
    """Submit the boat; the job's id once the page shows the job, in the queue or, when it is done by then, in the gallery."""
    page.set_input_files("#choose", BOAT)
    fill(page, settings, prompt)
    expect(page.locator("[data-plan=size]")).to_have_text(
        f"{settings['width']} × {settings['height']}", timeout=LONG_MS
    )
    with page.expect_response(is_submission, timeout=LONG_MS) as submitting:
        page.get_by_role("button", name="Make video").click()
    assert submitting.value.status == 201, submitting.value.text()
    made = str(submitting.value.json()["id"])
    expect(page.locator(f'[data-job="{made}"]')).to_be_visible(timeout=LONG_MS)
    return made


def is_submission(answer: Response) -> bool:
    return answer.request.method == "POST" and urlsplit(answer.url).path == "/api/jobs"


def test_dropped_pictures_become_verified_videos_that_can_be_compared(page: Page, server: LiveServer) -> None:
    page_browser.give(page, {"boat.png": BOAT.read_bytes(), "house.png": HOUSE.read_bytes()}, "drop")
    fill(page, SMALL)
    expect(page.locator("[data-plan=duration]")).to_have_text("0.208 s", timeout=LONG_MS)
    expect(page.locator("[data-plan=memory]")).to_contain_text("GiB of")
    expect(page.locator("[data-plan=guidance]")).to_contain_text("NAG")
    page.get_by_role("button", name="Make 2 videos").click()
    expect(page.locator("#queue .job")).to_have_count(2, timeout=LONG_MS)
    expect(page.locator("#queue progress").first).to_be_visible(timeout=LONG_MS)
    # A closed tab loses nothing: the jobs go on, and the next one finds them.
    page.goto("about:blank")
    page.goto(server.url)
    expect(page.locator("#gallery .result")).to_have_count(2, timeout=LONG_MS)
    # What the checks say of so small a clip is theirs to say; that they looked is what the page shows.
    expect(page.locator("#gallery .verdict:not(.none)")).to_have_count(2, timeout=LONG_MS)

    page.get_by_role("button", name="New seed: ").first.click()
    expect(page.locator("#gallery .result")).to_have_count(3, timeout=LONG_MS)
    page.fill("#search", "soft evening")
    expect(page.locator("#gallery .result")).to_have_count(3)
    page.fill("#search", "zebra")
    expect(page.get_by_text("No video's prompt has these words.")).to_be_visible()
    page.fill("#search", "")
    expect(page.locator("#gallery .result")).to_have_count(3)
    for box in page.locator(".result input[type=checkbox]").all():
        box.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare output")).to_have_text("0.00 of 0.21 s")
    page.get_by_label("Loop").uncheck()
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#compare output")).to_have_text("0.21 of 0.21 s")
    assert page_browser.trespasses(page) == []
    page.keyboard.press("Escape")


def test_details_of_a_video_are_all_there_and_it_can_be_downloaded(page: Page, server: LiveServer) -> None:
    page.locator(".result .open").first.click()
    sheet = page.locator("#details")
    expect(sheet.locator(".table").first).to_contain_text("Noise levels", timeout=LONG_MS)
    expect(sheet.locator(".checks li").first).to_be_visible()
    assert page_browser.trespasses(page) == []
    job_id = str(sheet.locator("h2").text_content())
    sheet.get_by_role("radio", name="4 of 5").check(force=True)
    expect(page.locator(f'#gallery [data-job="{job_id}"] .on')).to_have_count(4, timeout=LONG_MS)
    assert server.job(job_id)["rating"] == 4
    with page.expect_download() as loading:
        sheet.get_by_role("link", name="Download", exact=True).click()
    loaded = Path(loading.value.path())
    assert loaded.read_bytes() == Path(server.client.get(f"/api/jobs/{job_id}/record").json()["video"]).read_bytes()


def test_a_running_job_shows_its_stage_and_a_preview_and_can_be_cancelled(page: Page, server: LiveServer) -> None:
    running = make(page, SLOW)
    shown = page.locator(f'[data-job="{running}"][data-state=running]')
    expect(shown).to_contain_text(re.compile(r"Denoising, high noise · \d+ of \d+"), timeout=LONG_MS)
    expect(shown).to_contain_text(re.compile("About .* left"), timeout=LONG_MS)
    expect(shown.get_by_alt_text("Preview of the video so far")).to_be_visible(timeout=LONG_MS)
    page.wait_for_function("() => document.querySelector('#queue img').naturalWidth === 256")
    page.get_by_role("button", name=f"Cancel {running}").click()
    expect(page.locator(f'[data-job="{running}"]')).to_contain_text("Cancelled", timeout=LONG_MS)
    page.get_by_role("button", name=f"Remove {running} from the list").click()
    expect(page.locator(f'[data-job="{running}"]')).to_have_count(0, timeout=LONG_MS)
    assert server.client.get(f"/api/jobs/{running}").status_code == 404


def test_a_killed_server_comes_back_and_the_page_goes_on(page: Page, server: LiveServer) -> None:
    page.watch.expected = ("Failed to load resource", "WebSocket")
    made = make(page, SMALL, "The boat sails on after the crash, in soft evening light.")
    port = server.port
    server.stop(signal.SIGKILL)
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    server.start(port)
    expect(page.get_by_text("The server cannot be reached.")).to_be_hidden(timeout=LONG_MS)
    expect(page.locator(f'#gallery [data-job="{made}"]')).to_be_visible(timeout=LONG_MS)
    expect(page.locator("#prompt")).to_have_value("The boat sails on after the crash, in soft evening light.")


def test_what_the_server_refuses_stands_next_to_its_field(page: Page, server: LiveServer) -> None:
    page.watch.expected = ("Failed to load resource",)
    page.set_input_files("#choose", BOAT)
    for name, value, told in (("num_frames", "5000", "1025"), ("seed", "1.5", "whole number"), ("width", "7", "4096")):
        fill(page, {name: value})
        expect(page.locator(f"#field-{name}-error")).to_contain_text(told, timeout=LONG_MS)
        page.get_by_role("button", name="Defaults").click()


def test_the_plan_warns_and_hints_and_a_preset_fills_the_form(page: Page) -> None:
    page_browser.give(page, {"boat.png": BOAT.read_bytes()}, "paste")
    fill(page, {"num_frames": "50"}, "boat, waves, sunset, beautiful, cinematic, 8k")
    expect(page.locator(".warnings")).to_contain_text("the file gets exactly 50", timeout=LONG_MS)
    expect(page.locator("#prompt-hints")).to_contain_text("keywords between commas")
    page.get_by_role("button", name=re.compile("Fireworks")).click()
    expect(page.locator("#prompt")).to_have_value(re.compile("fireworks burst"))
    expect(page.locator("[data-plan=duration]")).to_have_text("5.000 s", timeout=LONG_MS)


def test_a_token_is_asked_for_and_pictures_and_events_work_with_it(browser: Browser, tmp_path: Path) -> None:
    with (
        serving(tmp_path, "mini", WAN2_I2V_TOKEN="open-sesame") as guarded,
        page_browser.watched(browser, guarded.url) as page,
    ):
        page.watch.expected = ("Failed to load resource",)
        page.set_default_timeout(LONG_MS)
        page.goto(guarded.url)
        page.get_by_label("Token").fill("open-sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        ready(page)
        made = make(page, SMALL)
        expect(page.locator(f'#gallery [data-job="{made}"] img')).to_be_visible(timeout=LONG_MS)
        # Pictures far below are loaded when they are scrolled to.
        page.locator("#gallery img").scroll_into_view_if_needed()
        page.wait_for_function("() => document.querySelector('#gallery img').naturalWidth === 64")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
