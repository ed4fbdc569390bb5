"""A real headless Chromium, and what must hold on every page that it shows.

The fixture of the tests has scope "module": while Playwright is open, its event loop runs in this
thread, and `asyncio.run` of another test would fail.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Response

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
TIMEOUT = 15_000
"""milliseconds until an element must be there"""
AXE_OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason=f"there is no Chromium: install one of {', '.join(NAMES)}"
)
"""marks tests, or as `pytestmark` a module, that need `open_browser`"""


@contextmanager
def open_browser() -> Iterator["Browser"]:
    """Start Chromium; close it at the end."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a page has done that it must not do."""

    origin: str
    problems: list[str] = field(default_factory=list)

    def attach(self, page: "Page") -> None:
        """Listen to errors, violations of the content security policy, and requests."""
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("console", lambda message: self.note_message(message.type, message.text))
        page.on("request", lambda request: self.note_request(request.url))
        page.on("response", self.note_response)

    def note_message(self, kind: str, text: str) -> None:
        # Chromium logs answers such as 429, which the page handles; `note_response` sees the rest.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.problems.append(f"console: {text}")

    def note_request(self, url: str) -> None:
        if not url.startswith((f"{self.origin}/", "blob:", "data:")):
            self.problems.append(f"request to {url}")

    def note_response(self, response: "Response") -> None:
        is_asset = urlsplit(response.url).path.startswith(("/static/", "/favicon"))
        if response.status >= 400 and is_asset:
            self.problems.append(f"{response.url}: {response.status}")


@contextmanager
def open_page(browser: "Browser", url: str, **context: Any) -> Iterator["Page"]:
    """Show an address in a fresh context, and check in the end that nothing went wrong there.

    No script failed, nothing was written to the console, no request left the origin, no part of
    the page was missing.

    Args:
        browser: The browser.
        url: The address.
        **context: Arguments of `Browser.new_context`, such as `color_scheme` or `viewport`.
    """
    parts = urlsplit(url)
    watch = Watch(f"{parts.scheme}://{parts.netloc}")
    settings: dict[str, Any] = {"reduced_motion": "reduce", "accept_downloads": True} | context
    with browser.new_context(**settings) as pages:
        page = pages.new_page()
        page.set_default_timeout(TIMEOUT)
        watch.attach(page)
        page.goto(url)
        yield page
        page.wait_for_timeout(1)  # lets the last messages arrive
    assert watch.problems == [], watch.problems  # pytest rewrites no asserts of this file


def assert_accessible(page: "Page", state: str = "") -> None:
    """Check the page as it is now with axe-core: every rule, and the size of targets.

    Args:
        page: The page.
        state: What the page shows, for the message.
    """
    module = pytest.importorskip("axe_playwright_python.sync_playwright")
    results = module.Axe().run(page, options=AXE_OPTIONS)
    assert results.violations_count == 0, f"{state}: {results.generate_report()}"
