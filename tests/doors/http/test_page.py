"""The web page in a real Chromium, against a scripted double of the server: every feature, and states hard to reach."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed; pip install playwright")
from playwright.sync_api import Browser, Locator, Page, expect

import page_browser
from page_double import Double
from wan2_i2v import api
from wan2_i2v.request import GenerateRequest

pytestmark = pytest.mark.skipif(page_browser.CHROMIUM is None, reason=page_browser.MISSING)

PICTURES = Path(__file__).parents[3] / "examples" / "pictures"
BOAT, HOUSE = PICTURES / "boat.png", PICTURES / "house.png"
SMALL = {"width": 96, "height": 64, "num_frames": 24}
TEXT = "The boat rocks on the waves, in soft evening light."

expect.set_options(timeout=page_browser.WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with page_browser.browser() as started:
        # The first plan reads the model's headers; no test shall wait for that.
        api.plan(GenerateRequest(image=str(BOAT), num_frames=5))
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Double]:
    double = Double(tmp_path)
    double.start()
    yield double
    double.stop()


@pytest.fixture
def page(browser: Browser, server: Double, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, watched. A test may ask for another window or scheme by parametrizing it."""
    options = {"viewport": page_browser.DESKTOP} | getattr(request, "param", {})
    context = browser.new_context(**options)
    context.set_default_timeout(page_browser.WAIT_MS)
    watch = page_browser.Watch(context)
    opened = context.new_page()
    opened.goto(server.url)
    opened.watch = watch
    yield opened
    context.close()
    watch.check(server.url)


def add_boat(page: Page) -> None:
    page.set_input_files("#choose", BOAT)
    expect(page.locator("[data-plan=size]")).to_have_text("288 × 192")


def job(page: Page, job_id: str) -> Locator:
    return page.locator(f'#queue [data-job="{job_id}"]')


def result(page: Page, job_id: str) -> Locator:
    return page.locator(f'#gallery [data-job="{job_id}"]')


def add(server: Double, job_id: str, **settings: object) -> None:
    server.add(BOAT.read_bytes(), {"prompt": TEXT, "seed": 7} | SMALL | settings, job_id)


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(stream, "PNG")
    return stream.getvalue()


# --- the form and the plan ---


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
    expect(page.locator("[data-plan=guidance]")).to_contain_text("NAG (scale 11")
    page.fill("#field-num_frames", "50")
    expect(page.locator("[data-plan=duration]")).to_have_text("2.083 s")
    expect(page.locator(".warnings")).to_contain_text("the file gets exactly 50")
    page.get_by_text("Guidance", exact=True).first.click()
    page.fill("#field-guidance_scale_high", "3.5")
    expect(page.locator("[data-plan=guidance]")).to_contain_text("CFG")
    page.get_by_role("button", name="96 × 64").click()
    expect(page.locator("[data-plan=size]")).to_have_text("96 × 64")
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#queue .job")).to_have_count(1)
    (made,) = server.jobs.values()
    assert made["settings"] == {"width": 96, "height": 64, "num_frames": 50, "guidance_scale_high": 3.5}


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


def test_advice_for_the_picture_can_be_taken(page: Page) -> None:
    add_boat(page)
    expect(page.locator(".advice")).to_contain_text("the picture looks soft")
    page.get_by_role("button", name="Take 81 frames").click()
    expect(page.locator("#field-num_frames")).to_have_value("81")
    expect(page.locator(".advice")).not_to_contain_text("81 frames")


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


# --- the queue ---


def test_a_running_job_shows_stage_step_time_left_and_preview(page: Page, server: Double) -> None:
    add(server, "boat-1")
    add(server, "boat-2")
    expect(job(page, "boat-2")).to_contain_text("Waiting, 1 before it")
    server.move("boat-1", "running")
    server.progress("boat-1", stage="denoise high", done=1, total=2, fraction=0.35, eta_seconds=600.0)
    shown = job(page, "boat-1")
    expect(shown).to_contain_text("Denoising, high noise · 1 of 2")
    expect(shown).to_contain_text("About 10 min left")
    expect(page.locator(".chip")).to_have_text("Running 35 %, 1 waiting")
    expect(job(page, "boat-2")).to_contain_text("Waiting, next")
    server.preview("boat-1", 1)
    expect(shown.locator("img")).to_have_attribute("src", "/api/jobs/boat-1/preview?step=1")
    server.finish("boat-1")
    expect(result(page, "boat-1")).to_contain_text("All checks passed")
    expect(page.locator(".toast")).to_contain_text("Video ready")
    expect(shown).to_have_count(0)


def test_cancel_retry_another_seed_and_remove(page: Page, server: Double) -> None:
    add(server, "boat-1")
    page.get_by_role("button", name="Cancel boat-1").click()
    expect(job(page, "boat-1")).to_contain_text("Cancelled")
    add(server, "boat-2")
    reason = "it killed its worker three times (exit code -9); it is set aside."
    server.move("boat-2", "set_aside", error={"code": "worker_died", "message": reason})
    expect(job(page, "boat-2")).to_contain_text(reason)
    page.get_by_role("button", name="Retry boat-2").click()
    expect(job(page, "boat-2")).to_contain_text("Waiting, next")
    page.get_by_role("button", name="Another seed: boat-1").click()
    expect(job(page, "boat-1-again")).to_contain_text("seed 8")
    page.get_by_role("button", name="Remove boat-1 from the list").click()
    expect(job(page, "boat-1")).to_have_count(0)
    assert list(server.jobs) == ["boat-2", "boat-1-again"]


def test_a_full_queue_is_told_and_nothing_is_sent_twice(page: Page, server: Double) -> None:
    page.watch.expected = ("Failed to load resource",)
    add_boat(page)
    server.refuse_jobs = (429, "queue_full", "the queue is full; try again later.")
    page.get_by_role("button", name="Make video").click()
    expect(page.get_by_role("alert").filter(has_text="the queue is full")).to_be_visible()
    server.refuse_jobs = None
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#queue .job")).to_have_count(1)
    assert len(server.jobs) == 1


# --- nothing is lost ---


def test_a_reload_keeps_the_draft_and_the_jobs(page: Page, server: Double) -> None:
    add_boat(page)
    page.set_input_files("#choose", HOUSE)
    page.fill("#prompt", TEXT)
    page.fill("#field-num_frames", "33")
    page.get_by_role("button", name="96 × 64").click()
    add(server, "boat-1")
    expect(page.locator("[data-plan=duration]")).to_have_text("1.375 s")
    page.reload()
    expect(page.locator("#prompt")).to_have_value(TEXT)
    expect(page.locator("#field-num_frames")).to_have_value("33")
    expect(page.locator(".strip li")).to_have_count(2)
    expect(page.locator("[data-plan=duration]")).to_have_text("1.375 s")
    expect(job(page, "boat-1")).to_be_visible()


def test_the_page_outlives_the_server_and_sends_what_waits(page: Page, server: Double) -> None:
    page.watch.expected = ("Failed to load resource",)
    add_boat(page)
    add(server, "boat-1")
    server.move("boat-1", "running")
    expect(job(page, "boat-1")).to_be_visible()
    server.stop()
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    page.get_by_role("button", name="Make video").click()
    expect(page.get_by_text("1 waiting to be sent")).to_be_visible()
    page.fill("#prompt", TEXT)
    server.start()
    expect(page.get_by_text("The server cannot be reached.")).to_be_hidden()
    expect(page.locator("#queue .job")).to_have_count(2)
    expect(page.get_by_text("1 waiting to be sent")).to_be_hidden()
    assert len(server.jobs) == 2
    server.finish("boat-1")
    expect(result(page, "boat-1")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value(TEXT)
    assert any("last=" in path for _, path in server.asked if path.startswith("/api/events"))


def test_a_picture_that_the_server_lost_is_asked_for_again(page: Page, server: Double) -> None:
    page.watch.expected = ("Failed to load resource",)
    add_boat(page)
    server.pictures.clear()
    page.reload()
    expect(page.locator(".strip .error")).to_have_text("The server no longer has this picture. Add it again.")
    expect(page.get_by_text("No picture could be used.")).to_be_visible()


# --- the gallery ---


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


# --- who may use it, and how ---


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
        page.keyboard.press("Space")
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
    for box in page.locator(".result input").all():
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
