"""What a store answers, as data classes."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vssl.errors import UsageError
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.errors import ImageRejected
from vssl_client.galleries.answers import (
    Classification,
    Classified,
    GalleryInfo,
    Neighbour,
    Neighbours,
    QueryInfo,
    Row,
    SearchAnswer,
    of,
)
from vssl_client.results.result import EmbeddingResult
from vssl_gallery import classifying
from vssl_gallery.gallery import LABELLED, Gallery
from vssl_gallery.gallery import Classification as CoreClassification
from vssl_gallery.queries import Queries
from vssl_gallery.store.columns import FIXED, UNFILTERED
from vssl_gallery.store.contract import Found, Spec

NUMBERS = ("uncertainty", "percentile", "confidence", "familiarity")
LEFT_OUT = ("embedding", "variance", "thumbnail")
"""Columns that are read only where they are asked for."""


def columns_of(spec: Spec, wanted: Sequence[str] | None) -> list[str]:
    """The columns to read: those that are wanted, by default all but the large ones.

    Raises:
        UsageError: a thumbnail is wanted.
    """
    if wanted is None:
        return [name for name in (*FIXED, *UNFILTERED, *spec.fields) if name not in ("id", *LEFT_OUT)]
    if "thumbnail" in wanted:
        raise UsageError("columns: a thumbnail is no column that is read; ask for it alone")
    found = [one for name in wanted for one in (FLAGS if name == "flags" else (name,))]
    return [name for name in dict.fromkeys(found) if name != "id"]


def document(row: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """A row from its columns, as a server says it."""
    fields = {name: row[name] for name in spec.fields if name in row}
    flags = {name: row[name] for name in FLAGS if name in row}
    rest = {name: value for name, value in row.items() if name not in fields and name not in flags}
    if rest.get("meta") is not None:
        rest["meta"] = json.loads(rest["meta"])
    known = None if all(value is None for value in flags.values()) else flags
    return {**rest, "fields": fields, "flags": known}


def rows_of(table: pa.Table, spec: Spec) -> list[Row]:
    """The rows of a table."""
    return [Row.of(document(row, spec)) for row in table.to_pylist()]


def info_of(gallery: Gallery, aliases: Sequence[str], served: bool) -> GalleryInfo:
    """A gallery's state."""
    state, spec = gallery.info(), gallery.spec
    record, reason = gallery.calibration()
    return GalleryInfo(
        name=gallery.name,
        model=spec.model,
        model_version=spec.model_version,
        encoder_id=spec.encoder_id,
        bundle_id=spec.bundle_id,
        dimension=spec.dimension,
        fields=dict(spec.fields),
        keep_thumbnails=spec.keep_thumbnails,
        rows=state.rows,
        version=state.version,
        indexed_rows=state.indexed_rows,
        recall=state.recall,
        bytes=state.size,
        calibration=reason or "fitted",
        classes=None if record is None else len(record.classes),
        labelled=gallery.store.count(LABELLED),
        aliases=aliases,
        served=served,
    )


def infos_of_result(result: EmbeddingResult) -> list[QueryInfo]:
    """What is known of embedded images."""
    return [of(QueryInfo, {name: getattr(row, name) for name in (*NUMBERS, "flags")}) for row in result]


def infos_of_rows(rows: Sequence[Row]) -> list[QueryInfo]:
    """What is known of rows that are queries."""
    return [of(QueryInfo, {name: getattr(row, name) for name in (*NUMBERS, "flags")}) for row in rows]


def search_answer(
    found: Found, infos: Sequence[QueryInfo], spec: Spec, leave_out: Sequence[str | None], k: int
) -> SearchAnswer:
    """The k neighbours of each query, without the row named in `leave_out`."""
    results = []
    for rows, info, own in zip(_by_query(found.rows, len(infos)), infos, leave_out, strict=True):
        documents = [document(row, spec) for row in rows.drop_columns(["query"]).to_pylist() if row["id"] != own]
        neighbours = [of(Neighbour, one, row=Row.of(one)) for one in documents[:k]]
        results.append(Neighbours(info, neighbours))
    return SearchAnswer(found.version, found.exact, results)


def classification(found: CoreClassification, infos: Sequence[QueryInfo]) -> Classification:
    """What is said of each query."""
    results = [_classified(one, info) for one, info in zip(found.answers, infos, strict=True)]
    return Classification(found.version, found.exact, found.calibration, results)


def _classified(one: classifying.Classified, info: QueryInfo) -> Classified:
    interval = None if one.low is None or one.high is None else (one.low, one.high)
    neighbours = [Neighbour(id, similarity) for id, similarity in zip(one.neighbours, one.similarity, strict=True)]
    return Classified(info, one.label, one.p_correct, interval, one.prediction_set, one.action, one.reason, neighbours)


def _by_query(rows: pa.Table, queries: int) -> Iterator[pa.Table]:
    ends = np.searchsorted(rows["query"].to_numpy(), np.arange(queries + 1))
    for start, end in itertools.pairwise(ends):
        yield rows.slice(start, end - start)


def queries_of(result: EmbeddingResult, images: Sequence[bytes]) -> Queries:
    """Embedded images as queries.

    Raises:
        ImageRejected: one of them has no embedding.
    """
    for row, wrong in enumerate(result.errors):
        if wrong is not None:
            raise ImageRejected(wrong.type, wrong.message, row)
    flags = result.flags or {}
    return Queries(
        result.embedding,
        np.asarray(result.uncertainty),
        result.variance,
        flags.get("ood"),
        flags.get("unfamiliar"),
        [hashlib.sha256(data).hexdigest() for data in images],
    )
