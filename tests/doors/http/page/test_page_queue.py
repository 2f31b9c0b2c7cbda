"""The queue, and that nothing is lost: reloads, a server that goes away, in Chromium against a double of the server."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from page_browser import HOUSE, TEXT, add, add_boat, job, result
from page_double import Double


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
