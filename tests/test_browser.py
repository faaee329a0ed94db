import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser import DESKTOP, PHONE_DARK, Browser, fits

PAGE = "<!doctype html><meta name=viewport content='width=device-width'><title>A</title><p>Seen</p>"


@pytest.fixture
def server() -> Iterator[str]:
    """A server on this machine that answers every request with PAGE."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        threading.Thread(target=started.serve_forever).start()
        yield f"http://127.0.0.1:{started.server_port}/"
        started.shutdown()


def test_a_file_and_a_server_of_this_machine_are_seen(
    browser: Browser, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLLM_SCREENSHOTS", str(tmp_path / "shots"))
    (tmp_path / "a.html").write_text(PAGE)
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    for address in (tmp_path / "a.html", server):
        seen = browser.look(
            address,
            "a",
            lambda page: (page.inner_text("p"), page.evaluate("innerWidth"), page.evaluate(dark)),
            (DESKTOP, PHONE_DARK),
        )
        assert seen == [("Seen", 1280, False), ("Seen", 390, True)]
    assert {file.name for file in (tmp_path / "shots").iterdir()} == {"a-desktop.png", "a-phone-dark.png"}
    asyncio.run(asyncio.sleep(0))  # no event loop is left running here


def test_errors_and_requests_elsewhere_fail_the_test(browser: Browser, tmp_path: Path) -> None:
    parts = (
        "<script>console.error('it broke')</script><script>nothing.of_the_name()</script>"
        "<img src='http://example.invalid/a.png'>"
        "<script>fetch('https://example.invalid/b').catch(() => 0)</script>"
    )
    (tmp_path / "a.html").write_text(PAGE + parts)
    faults = ("it broke", "nothing is not defined", "a request to http://example.invalid/a.png", "invalid/b")
    for fault in faults:
        rest = "|".join(each for each in (*faults, "ERR_", "CORS") if each != fault)
        with pytest.raises(AssertionError, match=fault):
            browser.look(tmp_path / "a.html", "a", views=[DESKTOP], ignored=rest)
    browser.look(tmp_path / "a.html", "a", views=[DESKTOP], ignored="|".join((*faults, "ERR_", "CORS")))


def test_a_page_wider_than_the_window_does_not_fit(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE + "<pre style='width:900px'>wide</pre>")
    with pytest.raises(AssertionError, match=r"pixels too wide: .*900px"):
        browser.look(tmp_path / "a.html", "a", fits, [PHONE_DARK])
    browser.look(tmp_path / "a.html", "a", fits, [DESKTOP])
