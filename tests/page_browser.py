"""A real Chromium for tests of the web page, and what it is watched for: errors, broken rules, requests to other hosts.

Uses the system's Chromium: `apt-get install chromium` on Debian. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

from page_double import Double

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
MISSING = "Chromium is not installed; apt-get install chromium"
AXE = Path(__file__).parent / "assets" / "axe-core" / "axe.min.js"
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
WAIT_MS = 60_000
PICTURES = Path(__file__).parents[1] / "examples" / "pictures"
BOAT, HOUSE = PICTURES / "boat.png", PICTURES / "house.png"
SMALL = {"width": 96, "height": 64, "num_frames": 24}
TEXT = "The boat rocks on the waves, in soft evening light."


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watch:
    """Everything a page asked for and complained about. `expected`: beginnings of complaints that a test provokes."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.urls: list[str] = []
        self.expected: tuple[str, ...] = ()
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self.urls.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def check(self, origin: str) -> None:
        """No request left the server, and nothing was complained about that the test did not provoke."""
        hosts = {urlsplit(url).netloc for url in self.urls if urlsplit(url).scheme not in ("blob", "data")}
        assert hosts <= {urlsplit(origin).netloc}, hosts
        unexpected = [text for text in self.complaints if not text.startswith(self.expected or ("\0",))]
        assert not unexpected, unexpected


@contextmanager
def watched(browser: Browser, origin: str, **options: Any) -> Iterator[Page]:
    """An empty tab whose `watch` is checked at the end."""
    context = browser.new_context(**{"viewport": DESKTOP} | options)
    context.set_default_timeout(WAIT_MS)
    watch = Watch(context)
    page = context.new_page()
    page.watch = watch
    yield page
    context.close()
    watch.check(origin)


def add_boat(page: Page) -> None:
    page.set_input_files("#choose", BOAT)
    expect(page.locator("[data-plan=size]")).to_have_text("288 × 192")


def job(page: Page, job_id: str) -> Locator:
    return page.locator(f'#queue [data-job="{job_id}"]')


def result(page: Page, job_id: str) -> Locator:
    return page.locator(f'#gallery [data-job="{job_id}"]')


def add(server: Double, job_id: str, **settings: object) -> None:
    """A job in a double, as if somebody else had submitted it."""
    server.add(BOAT.read_bytes(), {"prompt": TEXT, "seed": 7} | SMALL | settings, job_id)


def give(page: Page, pictures: dict[str, bytes], how: str) -> None:
    """Drop or paste pictures, by name, as a person would."""
    coded = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    page.evaluate(
        """([coded, how]) => {
            const carried = new DataTransfer();
            for (const [name, text] of Object.entries(coded)) {
                const content = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
                carried.items.add(new File([content], name, { type: "image/png" }));
            }
            const more = { bubbles: true, cancelable: true };
            if (how === "paste") document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, ...more }));
            else for (const kind of ["dragenter", "dragover", "drop"])
                document.querySelector("main").dispatchEvent(new DragEvent(kind, { dataTransfer: carried, ...more }));
        }""",
        [coded, how],
    )


def trespasses(page: Page) -> list[str]:
    """What axe finds serious or critical, one line each."""
    if not page.evaluate("() => 'axe' in window"):
        # Through the debugger, so that the page's own policy needs no exception.
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {json.dumps([node['target'] for node in one['nodes']])} {one['nodes'][0]['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    width: int = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    return width
