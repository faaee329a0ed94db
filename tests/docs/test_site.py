"""The documentation builds as a site without a warning, and its pages ask no network for anything."""

import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobs.verbs import VERBS
from tests.browser import DESKTOP, PHONE_DARK
from tests.docs.pages import DOCS, REPOSITORY

FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(https?:[^\"]+)|<link\b[^>]*\bhref=\"(https?:[^\"]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_each_page_is_in_the_site_and_fetches_nothing(site):
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")}
    written = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert {page.replace("README.html", "index.html") for page in written} < pages
    assert "commands.html" in pages and not list(site.rglob("*.py"))
    for page in pages:
        assert not FETCHED.findall((site / page).read_text(encoding="utf-8")), page


def test_each_verb_is_on_the_page_of_commands_with_its_arguments(site):
    text = (site / "commands.html").read_text(encoding="utf-8")
    assert all(f"sllm {name}</code>" in text for name in VERBS)
    assert all(option in text for option in ("--submit", "--compare", "--dry-run", "--html"))


def test_links_of_the_site_lead_to_pages_and_anchors(site):
    for page in site.rglob("*.html"):
        for link in re.findall(r'<a\b[^>]*\bhref="([^"#][^"]*)"', page.read_text(encoding="utf-8")):
            if not link.startswith(("http:", "https:", "mailto:")):
                assert (page.parent / link.split("#")[0]).exists() or page.name == "404.html", (page, link)


def test_pages_are_readable_in_a_browser(site, browser):
    handler = type("Handler", (_Quiet,), {"folder": str(site)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        for name in ("index", "tutorial/corpus", "commands"):
            headings = browser.look(
                f"{address}/{name}.html",
                f"docs-{name.replace('/', '-')}",
                lambda page: page.locator("h1").first.inner_text(),
                views=(DESKTOP, PHONE_DARK),
            )
            assert len(headings) == 2 and all(headings)
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    folder = ""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, directory=self.folder, **options)

    def log_message(self, *_arguments) -> None:
        pass


def test_no_page_names_a_path_of_the_machine_it_was_written_on():
    for page in (*DOCS.rglob("*.md"), *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md"))):
        assert not re.search(r"/(?:work|home|root)/", Path(page).read_text(encoding="utf-8")), page
