"""A self-contained page: pictures with their matches in a gallery and what a match is worth, and which are flagged."""

import base64
import html
import json
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vssl.images.decoding import DEFAULT_LIMITS
from vssl.sources.opening import open_source
from vssl.sources.source import Source
from vssl_client.parts.stored import StoredEmbeddings, read_embeddings

QUERIES, COPIED, EXTREMES = 14, 4, 16
Row = dict[str, Any]

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>VSSL gallery</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1e; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
  h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem } p { color: #555; max-width: 46rem }
  .row { display: flex; flex-wrap: wrap; gap: .45rem; margin: .6rem 0 }
  figure { margin: 0; width: 104px; text-align: center }
  img { width: 104px; height: 104px; object-fit: cover; border: 3px solid #ddd; border-radius: 6px;
        box-sizing: border-box }
  .query img { border-color: #1c1c1e } .same img { border-color: #2e9e5b } .other img { border-color: #d0453a }
  .flagged img { border-color: #e0a100 }
  figcaption { font-size: 11.5px; line-height: 1.35; color: #666; overflow: hidden; text-overflow: ellipsis }
  .gap { width: .8rem } b { color: #a06f00 }
</style></head><body>
<h1>What the embedding sees, and how far to trust it</h1>
<p>$count photographs of clothes (CC0), looked up in a gallery of $gallery by other people. The classes, read from the
folders of the gallery, colour the frames and calibrate the matches; the encoder never saw them.</p>
<h2>Matches</h2>
<p>The black frame is the query, with the probability that its nearest neighbour is right, and what to do by it; then
its neighbours by cosine similarity, green where the class is the query's. Of all queries, $right % have a nearest
neighbour of their class; of those that are accepted, $accepted %.</p>
$queries
<h2>Degraded copies</h2>
<p>A photograph, and copies of it that were degraded here. Each says its percentile of uncertainty among the reference
photographs of the model. $caught % of all copies have a flag, and $false % of the photographs as they are.</p>
$degraded
<h2>No photographs at all</h2>
<p>Drawn by a few lines of code.</p>
<div class="row">$drawn</div>
<h2>Most certain, and least certain</h2>
<p>Of the photographs as they are: the lowest <code>uncertainty</code>, then the highest.</p>
<div class="row">$certain</div>
<div class="row">$uncertain</div>
</body></html>
""")


class Pictures:
    """The pictures of the page, as HTML, with what the model says of those that were embedded."""

    def __init__(self, queries: Source, gallery: Source, embedded: StoredEmbeddings) -> None:
        self.queries, self.gallery, self.embedded = queries, gallery, embedded
        self.row = {path: row for row, path in enumerate(embedded.paths)}

    def flags(self, path: str) -> list[str]:
        """The flags that are raised for a query."""
        found = self.embedded.flags
        return [] if found is None else [name for name, raised in found.items() if raised[self.row[path]]]

    def query(self, path: str, caption: str = "", kind: str = "") -> str:
        """A query with its percentile and its flags."""
        row, flags = self.row[path], self.flags(path)
        percentile = self.embedded.percentile
        told = f"u {self.embedded.uncertainty[row]:.2f}" if percentile is None else f"{percentile[row]:.0f} %"
        lines = [html.escape(caption)] * bool(caption) + [told + (f" <b>{', '.join(flags)}</b>" if flags else "")]
        return _figure(self.queries, path, kind or ("flagged" if flags else ""), "<br>".join(lines))

    def match(self, row: Row) -> str:
        """A query with its neighbours."""
        label = row["path"].split("/")[1]
        worth = "" if row["p_correct"] is None else f"p {row['p_correct']:.2f}, {row['action']}"
        found = [self.query(row["path"], f"{label}: {worth}", "query"), '<div class="gap"></div>']
        for each in row["neighbours"]:
            kind = "same" if each["label"] == label else "other"
            found.append(_figure(self.gallery, each["path"], kind, f"{each['label']}<br>{each['similarity']:.2f}"))
        return _row(found)


def write_gallery(pictures: Path, gallery: str, embedded: Path, matches: str, page: Path) -> None:
    """Write `page` from the pictures of `demo/pictures.py`, the gallery's images, the folder of embeddings of the
    former, and what `vssl neighbours --labels --json` said of them.
    """
    queries, opened, table = open_source(str(pictures)), open_source(gallery), read_embeddings(embedded)
    shown = Pictures(queries, opened, table)
    rows = [json.loads(line) for line in matches.splitlines()]
    clean = [row for row in rows if row["path"].startswith("clean/")]
    right = {row["path"]: row["label"] == row["path"].split("/")[1] for row in clean}
    accepted = [right[row["path"]] for row in clean if row["action"] == "accept"]
    chosen = sorted(np.random.default_rng(0).choice(len(clean), min(QUERIES, len(clean)), replace=False))
    copies = [path for path in table.paths if path.startswith("degraded/")]
    ordered = sorted(right, key=lambda path: float(table.uncertainty[shown.row[path]]))
    page.write_text(
        PAGE.substitute(
            count=len(clean),
            gallery=len(list(opened.paths())),
            right=_percent(right.values()),
            accepted=_percent(accepted),
            queries="\n".join(shown.match(clean[number]) for number in chosen),
            caught=_percent(bool(shown.flags(path)) for path in copies),
            false=_percent(bool(shown.flags(path)) for path in right),
            degraded="\n".join(_copied(shown, list(right), copies)),
            drawn="".join(shown.query(path, Path(path).stem) for path in table.paths if path.startswith("drawn/")),
            certain="".join(shown.query(path) for path in ordered[:EXTREMES]),
            uncertain="".join(shown.query(path) for path in ordered[: -EXTREMES - 1 : -1]),
        ),
        encoding="utf-8",
    )
    queries.close()
    opened.close()


def _copied(shown: Pictures, clean: list[str], copies: list[str]) -> Iterator[str]:
    """A row for some photographs of which there are degraded copies."""
    by_name = {f"{path.split('/')[1]}-{Path(path).stem}": path for path in clean}
    of: dict[str, list[str]] = {name: [copy for copy in copies if f"/{name}-" in copy] for name in by_name}
    for name in [name for name, found in of.items() if found][:COPIED]:
        kinds = [shown.query(copy, Path(copy).stem.rsplit("-", 1)[1]) for copy in of[name]]
        yield _row([shown.query(by_name[name], "as it is", "query"), '<div class="gap"></div>', *kinds])


def _row(figures: Iterable[str]) -> str:
    return f'<div class="row">{"".join(figures)}</div>'


def _percent(of: Iterable[bool]) -> str:
    values = list(of)
    return f"{100 * sum(values) / len(values):.0f}" if values else "–"


def _figure(source: Source, path: str, kind: str, caption: str) -> str:
    """One image with its bytes inside the page."""
    data = base64.b64encode(source.read(path, DEFAULT_LIMITS.max_bytes)).decode()
    name = html.escape(path)
    return (
        f'<figure class="{kind}"><img src="data:image;base64,{data}" alt="{name}" title="{name}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
