"""Takes the pictures of the web page that docs/web.md shows: a real server with mini, a real Chromium.

    PYTHONPATH=tests python docs/images/take.py [FOLDER]

Needs Chromium and playwright. Makes four clips first, in FOLDER, which takes minutes on a small machine; run again with the
same FOLDER, it goes on where it was.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

import page_browser
import servers
from servers import LiveServer, serving

FOLDER = Path(__file__).parent
PATIENCE_MS = 1_800_000
CLIPS = (
    ("boat", "The boat rocks gently on the waves, in soft evening light.", 3),
    ("balloon", "The balloon rises slowly into the sky, in bright morning light.", 5),
    ("boat", "The boat rocks gently on the waves, in soft evening light.", 8),
    ("flower", "The flower sways in the wind, in warm afternoon light.", 13),
)
SETTINGS = {"num_frames": 17, "fps": 16}
LOOKS = {
    "web-light": {"color_scheme": "light"},
    "web-dark": {"color_scheme": "dark"},
    "web-phone": {"color_scheme": "light", "viewport": page_browser.PHONE, "device_scale_factor": 2},
}


def picture(name: str) -> bytes:
    return (page_browser.PICTURES / f"{name}.png").read_bytes()


def make(server: LiveServer) -> None:
    """The gallery's clips, one that is made for long and one that waits behind it."""
    for name, prompt, seed in CLIPS:
        settings = SETTINGS | {"prompt": prompt, "seed": seed}
        server.submit(server.upload(picture(name)), settings, f"{name}-{seed}")
    for name, _, seed in CLIPS:
        server.ended(f"{name}-{seed}")
    for job_id, rating in (("boat-8", 5), ("flower-13", 4)):
        server.client.post(f"/api/jobs/{job_id}/rating", json={"rating": rating})
    long = SETTINGS | {"prompt": CLIPS[3][1], "num_frames": 33, "num_inference_steps": 200, "seed": 34}
    server.submit(server.upload(picture("flower")), long, "flower-34")
    waiting = SETTINGS | {"prompt": "The camera zooms in on the house, in clear daylight.", "seed": 55}
    server.submit(server.upload(picture("house")), waiting, "house-55")


def fill(page: Page) -> None:
    page.set_input_files("#choose", [page_browser.PICTURES / "balloon.png", page_browser.BOAT])
    page.fill("#prompt", "The balloon rises slowly and drifts to the left, cinematic, 8k.")
    page.wait_for_selector("#prompt-hints li")
    page.wait_for_selector("#queue progress")
    page.wait_for_function("() => document.querySelector('#queue img').src.includes('/preview')")
    page.wait_for_function("() => [...document.images].every((one) => !one.offsetParent || one.complete)")
    page.evaluate("() => document.activeElement.blur()")


def take(browser: Browser, url: str) -> None:
    for name, look in LOOKS.items():
        context = browser.new_context(**{"viewport": page_browser.DESKTOP} | look)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(".result")
        page.mouse.wheel(0, 4000)
        page.mouse.wheel(0, -4000)
        fill(page)
        page.screenshot(path=FOLDER / f"{name}.png", full_page=name != "web-phone")
        if name == "web-light":
            take_dialogs(page)
        context.close()


def take_dialogs(page: Page) -> None:
    page.get_by_role("button", name="Open boat-3").click()
    page.wait_for_selector("#details .table div:nth-child(12)")
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / "web-details.png")
    page.keyboard.press("Escape")
    for name, _, seed in CLIPS[:4]:
        page.get_by_label(f"Compare {name}-{seed}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_function("() => !document.querySelector('#compare output').textContent.endsWith('0.00 s')")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(700)
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(700)
    page.screenshot(path=FOLDER / "web-compare.png")


if __name__ == "__main__":
    servers.PATIENCE = PATIENCE_MS / 1000
    folder = Path(sys.argv[1] if sys.argv[1:] else tempfile.mkdtemp())
    with serving(folder, "mini") as server, page_browser.browser() as started:
        make(server)
        take(started, server.url)
