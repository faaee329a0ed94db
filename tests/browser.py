"""A headless Chromium for tests: it opens pages as phones and desktops do, and lets nothing reach a network.

Playwright's synchronous API leaves an event loop running in its thread, which Ray and MLflow do not expect in
theirs. So the browser has a thread of its own: a test hands in what it wants to know of the page, as a function.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import Page, Route

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
TALLEST = 12_000
"""Height of a screenshot in pixels; Chromium draws no picture over 16,384."""
_RESIZED = "ResizeObserver loop completed"
"""Of an error that only says that a page is laid out once more."""
TIMEOUT_MS = 60_000
Seen = TypeVar("Seen")


@dataclasses.dataclass(frozen=True)
class View:
    """Size of the window in CSS pixels, and the colours that its owner prefers."""

    name: str
    width: int
    height: int
    is_dark: bool


DESKTOP = View("desktop", 1280, 900, False)
DESKTOP_DARK = View("desktop-dark", 1280, 900, True)
PHONE = View("phone", 390, 844, False)
PHONE_DARK = View("phone-dark", 390, 844, True)
VIEWS = (DESKTOP, DESKTOP_DARK, PHONE, PHONE_DARK)


@dataclasses.dataclass(frozen=True)
class Browser:
    """A started Chromium. Every page gets a context of its own: no cookie and no cache is shared."""

    chromium: "Chromium"
    thread: ThreadPoolExecutor

    def look(
        self,
        address: str | Path,
        name: str,
        check: Callable[["Page"], Seen] | None = None,
        views: Sequence[View] = VIEWS,
        ignored: str | None = None,
        wait_for: str | None = None,
    ) -> list[Seen | None]:
        """Open a file or a URL in each of `views` -> what `check(page)` returned in each.

        `check` runs in the browser's thread, where pages may be used; its failed assertions fail the test, and so do
        errors on the console and requests to a host that is not this one, except where the regular expression
        `ignored` is found in them. `wait_for`: a selector that must be visible first. If `SLLM_SCREENSHOTS` names a
        folder, `<name>-<view>.png` is written there after the check.
        """
        url = Path(address).resolve().as_uri() if "://" not in str(address) else str(address)
        return [
            self.thread.submit(
                self._look, url, f"{name}-{view.name}", check, view, ignored, wait_for
            ).result()
            for view in views
        ]

    def _look(
        self,
        url: str,
        name: str,
        check: Callable[["Page"], Seen] | None,
        view: View,
        ignored: str | None,
        wait_for: str | None,
    ) -> Seen | None:
        faults: list[str] = []
        context = self.chromium.new_context(
            viewport={"width": view.width, "height": view.height},
            color_scheme="dark" if view.is_dark else "light",
            service_workers="block",
            has_touch=view.width < 500,
            is_mobile=view.width < 500,
        )
        with contextlib.closing(context):
            context.set_default_timeout(TIMEOUT_MS)
            context.route("**/*", lambda route: _only_here(route, faults))
            page = context.new_page()
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("websocket", lambda socket: None if is_here(socket.url) else faults.append(socket.url))
            page.goto(url)
            if wait_for is not None:
                page.locator(wait_for).first.wait_for()
            try:
                seen = None if check is None else check(page)
                page.wait_for_timeout(50)  # what the page does on loading may fail a moment later
            finally:
                _screenshot(page, name)
        harmless = _RESIZED if ignored is None else f"{_RESIZED}|{ignored}"
        left = [fault for fault in faults if not re.search(harmless, fault)]
        assert not left, f"{url}: {left}"
        return seen


def is_here(url: str) -> bool:
    """Whether a request for this URL stays on this machine."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in ("file", "data", "blob", "about") or parts.hostname in (
        "127.0.0.1",
        "localhost",
        "::1",
    )


def fits(page: "Page") -> None:
    """Fail where the page is wider than the window: a reader on a phone would have to scroll sideways."""
    wide: Any = page.evaluate(
        """() => [...document.querySelectorAll('body *')]
            .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1
                           && !one.closest('.scrolls'))
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    excess = page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert excess <= 0, f"{excess} pixels too wide: {wide[:3]}"


def _only_here(route: "Route", faults: list[str]) -> None:
    if is_here(route.request.url):
        route.continue_()
    else:
        faults.append(f"a request to {route.request.url}")
        route.abort()


def _screenshot(page: "Page", name: str) -> None:
    folder = os.environ.get("SLLM_SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    size: Any = page.evaluate(
        "() => [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)}
    page.screenshot(path=Path(folder) / f"{name}.png", full_page=True, clip=clip)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The one Chromium of this session: $CHROMIUM, or that of the machine; tests are skipped where there is none."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip(
            "no Chromium on this machine: install the package chromium, or name its file in $CHROMIUM"
        )
    sync_api = pytest.importorskip("playwright.sync_api")
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser") as thread:
        playwright = thread.submit(sync_api.sync_playwright().start).result()
        try:
            launch = playwright.chromium.launch
            chromium = thread.submit(launch, executable_path=executable, args=list(ARGUMENTS)).result()
            yield Browser(chromium, thread)
            thread.submit(chromium.close).result()
        finally:
            thread.submit(playwright.stop).result()
