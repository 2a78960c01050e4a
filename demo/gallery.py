"""A self-contained page: queries with their nearest neighbours, and the most and the least certain images."""

import base64
import html
import string
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vssl.images.decoding import DEFAULT_LIMITS
from vssl.sources.opening import open_source
from vssl.sources.source import Source
from vssl_client.parts.stored import read_embeddings

QUERIES, NEIGHBOURS, EXTREMES = 12, 8, 24

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>VSSL gallery</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1e; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
  h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem } p { color: #555; max-width: 44rem }
  .row { display: flex; flex-wrap: wrap; gap: .45rem; margin: .45rem 0 }
  figure { margin: 0; width: 72px; text-align: center }
  img { width: 72px; height: 72px; image-rendering: pixelated; border: 3px solid #ddd; border-radius: 6px;
        box-sizing: border-box; background: #000 }
  .query img { border-color: #1c1c1e } .same img { border-color: #2e9e5b } .other img { border-color: #d0453a }
  figcaption { font-size: 11px; color: #777; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
  .gap { width: .8rem }
</style></head><body>
<h1>What the embedding sees</h1>
<p>$count images that were not in the training set, embedded by an encoder that never saw a label. The classes, read
from the folders, colour the frames and nothing else.</p>
<h2>Queries and their nearest neighbours</h2>
<p>The black frame is the query; then its neighbours by cosine similarity, green where the class is the query's.
Over all images, the nearest neighbour has the query's class for $right % of them.</p>
$queries
<h2>Most certain</h2>
<p>Lowest <code>uncertainty</code> (mean log variance) of all.</p>
<div class="row">$certain</div>
<h2>Least certain</h2>
<p>Highest <code>uncertainty</code>: here the embedding is least to be trusted.</p>
<div class="row">$uncertain</div>
</body></html>
""")


def write_gallery(source: str, embeddings: Path, page: Path) -> None:
    """Write `page` from a folder of Parquet parts and the images that they were made from."""
    table = read_embeddings(embeddings)
    images = open_source(source)
    paths, uncertainty = table.paths, table.uncertainty
    classes = [path.split("/")[0] for path in paths]
    similarity = table.embedding @ table.embedding.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = similarity.argmax(1)
    right = np.mean([classes[i] == classes[j] for i, j in enumerate(nearest)])
    rows = []
    for query in np.random.default_rng(0).choice(len(paths), min(QUERIES, len(paths)), replace=False):
        found = np.argsort(-similarity[query])[:NEIGHBOURS]
        pictures = [picture(images, paths[query], "query", classes[query]), '<div class="gap"></div>']
        for index in found:
            kind = "same" if classes[index] == classes[query] else "other"
            pictures.append(picture(images, paths[index], kind, f"{similarity[query, index]:.2f}"))
        rows.append(f'<div class="row">{"".join(pictures)}</div>')
    order = np.argsort(uncertainty)
    page.write_text(
        PAGE.substitute(
            count=len(paths),
            right=round(100 * float(right), 1),
            queries="\n".join(rows),
            certain=strip(images, paths, uncertainty, order[:EXTREMES]),
            uncertain=strip(images, paths, uncertainty, order[::-1][:EXTREMES]),
        ),
        encoding="utf-8",
    )
    images.close()


def strip(source: Source, paths: list[str], uncertainty: npt.NDArray[np.float32], rows: Iterable[int]) -> str:
    """Pictures of some rows, each with its uncertainty below."""
    return "".join(picture(source, paths[row], "", f"{uncertainty[row]:.2f}") for row in rows)


def picture(source: Source, path: str, kind: str, caption: str) -> str:
    """One image with its bytes inside the page."""
    data = base64.b64encode(source.read(path, DEFAULT_LIMITS.max_bytes)).decode()
    name = html.escape(path)
    return (
        f'<figure class="{kind}"><img src="data:image;base64,{data}" alt="{name}" title="{name}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
