"""The pages of the documentation, and the fenced blocks in them."""

import dataclasses
import re
import shlex
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.M | re.S)
NOT_RUN = "needs "
"""Start of the title of a block that the tests cannot run; what it needs follows."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    """The file, relative to the repository."""
    line: int
    """That of its fence, from 1 on."""
    language: str
    """Empty: none is given."""
    title: str
    """What the fence says beside the language: the name of a file, or what the block needs to run; empty: nothing."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether the tests run it; of the other blocks of commands they check the arguments."""
        return self.language == "sh" and not self.title.startswith(NOT_RUN)

    @cached_property
    def commands(self) -> list[str]:
        """Its commands, comments and continuations of lines resolved; a here-document is a part of its command."""
        found: list[str] = []
        lines = iter(re.sub(r"\\\n\s*", "", self.text).splitlines())
        for line in lines:
            if not shlex.split(line, comments=True):
                continue
            command = line
            if here := re.search(r"<<'?(\w+)'?", line):
                for inner in lines:
                    command += f"\n{inner}"
                    if inner == here[1]:
                        break
            found.append(command)
        return found


def pages() -> list[Path]:
    """Every page, README first, then in the order of the site, which is that of a reader."""
    top = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    site = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    order = {page: site.find(f": {page.relative_to(DOCS).as_posix()}\n") for page in DOCS.rglob("*.md")}
    return [*top, *sorted(order, key=lambda page: (order[page], page))]


def blocks() -> list[Block]:
    """Every fenced block of every page."""
    return [
        Block(
            page=str(page.relative_to(REPOSITORY)),
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            title=match["title"] or "",
            text=match["text"],
        )
        for page in pages()
        for text in [page.read_text(encoding="utf-8")]
        for match in FENCE.finditer(text)
    ]
