"""The README's segmenter, links and table of segmenters; its commands are those of `test_commands.py`."""

import re
from pathlib import Path

import segmenters
from segmenters.contract import check_ends

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_segmenter_of_the_readme_keeps_the_contract():
    (code,) = re.findall(r"```python title=\"my_module.py\"\n(.*?)```", README, re.DOTALL)
    scope = {"__name__": "lines"}
    exec(code, scope)  # noqa: S102 - our own README
    texts = ["", "one", "one\ntwo\n", "\n\n", "a\r\nb\u2028c"]
    for text, ends in zip(texts, scope["Lines"]().split(texts), strict=True):
        check_ends(text, ends)


def test_files_that_the_readme_links_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and all((REPOSITORY / link.split("#")[0]).exists() for link in links)


def test_every_segmenter_is_listed():
    assert all(f"| `{name}` |" in README for name in segmenters.BUILT_IN)
