"""What holds for each page: what it is for comes first, lines are short, links lead somewhere, the site has it."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import LINK, PAGES, anchors, name_of, prose_lines
from tests.paths import ROOT

WIDTH = 120
BUILT = {"demo/gallery.html"}
"""What a command writes."""
EACH = pytest.mark.parametrize("page", PAGES, ids=name_of)


@EACH
def test_lines_of_prose_are_short(page: Path) -> None:
    shown = ((number, LINK.sub(r"\1", line)) for number, line in prose_lines(page.read_text(encoding="utf-8")))
    assert [(number, line) for number, line in shown if len(line) > WIDTH] == []


@EACH
def test_a_page_starts_with_what_it_is_for(page: Path) -> None:
    title, empty, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert re.match(r"# \S", title)
    assert empty == ""
    assert re.match(r"[A-Z*`]", first), "a sentence comes before code, tables and headings"


@EACH
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for _, target in LINK.findall("\n".join(line for _, line in prose_lines(page.read_text(encoding="utf-8")))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: there is no such file"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{target}: there is no such heading"


@EACH
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:core|client|server|training|export|tests|benchmarks|demo|deploy|docs)/[\w./-]+)`",
        page.read_text(encoding="utf-8"),
    )
    assert [path for path in named if not (ROOT / path.replace("NAME", "quick")).exists() and path not in BUILT] == []


def test_the_site_has_each_page_in_its_menu() -> None:
    def leaves(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        nodes = node.values() if isinstance(node, dict) else node
        assert not isinstance(nodes, str)
        return [leaf for inner in nodes for leaf in leaves(inner)]  # type: ignore[attr-defined]

    names = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    wanted = {names.get(name_of(page), name_of(page).removeprefix("docs/")) for page in PAGES}
    assert set(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == wanted


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the site's builder is not installed")
def test_the_site_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for name in ("docs", "core", "client", "server", "training", "export"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").write_text("# Title\n\n<script src='//elsewhere.org/x.js'></script>\n")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "index.md: would load //elsewhere.org/x.js" in done.stdout + done.stderr
