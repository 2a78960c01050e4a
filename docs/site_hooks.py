"""What the site needs beside the pages: README, CONTRIBUTING and CHANGELOG are pages too, and their links lead there.

The files stay where a reader of the repository looks for them. Links to files that are no pages (a Dockerfile, a
module) become plain text, because a site has no such file.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files at the root of the repository, and the pages that they become."""
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*?(?:src|href)\s*=\s*[\"']?((?:https?:)?//[^\"' >]+)"
)
"""Whatever a browser fetches by itself while it shows a page."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:  # noqa: ANN401
    """Add the pages that come from the root of the repository."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(root / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:  # noqa: ANN401
    """Rewrite the links of a page: `docs/x.md` of the README, `../README.md` and other files outside docs/."""
    place = page.file.src_uri
    folder = PurePosixPath() if place in PAGES.values() else PurePosixPath("docs") / PurePosixPath(place).parent

    def rewritten(match: re.Match[str]) -> str:
        mark, text, address = match.groups()
        path, _, anchor = address.partition("#")
        if not path or "://" in address:
            return match[0]
        target = _normal(folder / path)
        uri = PAGES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            return text
        up = "../" * (len(PurePosixPath(place).parts) - 1)
        return f"{mark}[{text}]({up}{uri}{'#' + anchor if anchor else ''})"

    return LINK.sub(rewritten, markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Refuse a page that would load anything from another place."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: would load {found[1]}; keep a copy under docs/ instead")
    return output


def _normal(path: PurePosixPath) -> str:
    """The path without `..`, from the root of the repository."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
