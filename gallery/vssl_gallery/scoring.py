"""Other scores than the cosine: the most similar by cosine are ranked again with the variances (docs/galleries.md)."""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from vssl.arrays import Float64s
from vssl.errors import UsageError
from vssl.search.gaussians import CANDIDATES, Gaussians, csd, mutual_likelihood
from vssl_gallery.queries import Queries
from vssl_gallery.store.contract import Found
from vssl_gallery.store.rows import vectors

Score = Literal["cosine", "csd", "mls"]
SCORES: tuple[Score, ...] = get_args(Score)

NEEDED = ("embedding", "variance")
"""Columns of the candidates."""

_NEARER: Mapping[Score, Callable[[Gaussians, Gaussians], Float64s]] = {
    "csd": lambda query, rows: -csd(query, rows),
    "mls": mutual_likelihood,
}


def candidates(k: int, score: Score) -> int:
    """How many rows to find by cosine, so that k can be ranked by the score.

    Raises:
        UsageError: there is no such score.
    """
    if score not in SCORES:
        raise UsageError(f"score {score!r} is not one of {', '.join(SCORES)}")
    return k if score == "cosine" else max(k, CANDIDATES)


def ranked(found: Found, queries: Queries, k: int, score: Score) -> Found:
    """The k best of each query by `csd` or `mls`, whose value stands in the column `score`: higher is nearer.

    Rows without a variance come last, by their cosine.

    Raises:
        UsageError: the queries have no variance.
    """
    if queries.variance is None:
        raise UsageError(f"score {score}: needs the variance of the queries; ask with images or ids, or take cosine")
    rows, query = found.rows, found.rows["query"].to_numpy()
    known = rows["variance"].is_valid().to_numpy()
    mean = vectors(rows["embedding"])
    variance = np.zeros(mean.shape, np.float32)
    if known.any():
        variance[known] = vectors(rows["variance"].drop_null())
    values = np.full(rows.num_rows, -np.inf)
    for q in np.unique(query[known]):
        mine = np.flatnonzero((query == q) & known)
        one = Gaussians(queries.embedding[q : q + 1], queries.variance[q : q + 1])
        values[mine] = _NEARER[score](one, Gaussians(mean[mine], variance[mine]))[0]
    order = np.lexsort((-rows["similarity"].to_numpy(), -values, query))
    rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
    best = order[rank < k]
    numbers = pa.array(np.where(np.isfinite(values), values, np.nan)[best].astype(np.float32), from_pandas=True)
    return Found(rows.take(best).add_column(2, "score", numbers), found.version, found.exact)
