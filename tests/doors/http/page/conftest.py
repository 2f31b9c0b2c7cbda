"""A browser, a double of the server, and the page in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import page_browser
from page_browser import BOAT
from page_double import Double
from wan2_i2v import api
from wan2_i2v.request import GenerateRequest

expect.set_options(timeout=page_browser.WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if page_browser.CHROMIUM is None:
        pytest.skip(page_browser.MISSING)
    with page_browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def warm() -> None:
    """The first plan reads the model's headers; no test of the page shall wait for that."""
    api.plan(GenerateRequest(image=str(BOAT), num_frames=5))


@pytest.fixture
def server(tmp_path: Path, warm: None) -> Iterator[Double]:
    double = Double(tmp_path)
    double.start()
    yield double
    double.stop()


@pytest.fixture
def page(browser: Browser, server: Double, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, watched. A test may ask for another window or scheme by parametrizing it."""
    with page_browser.watched(browser, server.url, **getattr(request, "param", {})) as opened:
        opened.goto(server.url)
        yield opened
