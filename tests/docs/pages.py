"""The pages that users read, and their Markdown without code and tables."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
)
LINK = re.compile(r"!?\[((?:[^\[\]]|!\[[^\]]*\])*)\]\(([^()\s]+)\)")
"""A link or picture: its text and its target."""


def name_of(page: Path) -> str:
    """The page relative to the repository."""
    return page.relative_to(ROOT).as_posix()


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are neither code nor rows of tables."""
    fenced = False
    before = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        indented = line.startswith("    ") and not before.strip()  # a block of code begins after an empty line
        code = fenced or line.startswith((":::", "```")) or indented
        if not code and not line.startswith("|"):
            yield number, line
        before = "" if indented else line  # and goes on while lines are indented


def anchors(text: str) -> set[str]:
    """Where links into a page may lead, as Markdown makes them of the headings."""
    headings = (line.lstrip("#").strip() for _, line in prose_lines(text) if re.match(r"#+ ", line))
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading).strip("-") for heading in plain}
