"""Keeps a table small and fast: compacts it, indexes it, erases old versions, and measures what the index finds."""

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from vssl_gallery.store.lance.records import Records
from vssl_gallery.store.rows import vectors

VECTORS = "embedding"

RECALL = "_recall"
"""The record of the index's measured recall."""

KEPT = timedelta(hours=1)
"""How long old versions stay, for those who read them now."""

QUERIES, NEIGHBOURS = 100, 10
"""Rows that the recall is measured with, and the neighbours of each."""


def maintain(table: Any, records: Records, name: str, index_rows: int) -> list[str]:  # noqa: ANN401 — LanceDB has no types
    """Do what is due, and say what was done.

    Args:
        table: its newest version.
        records: where the recall goes.
        name: the gallery's.
        index_rows: from how many rows on it has an index.
    """
    before = table.stats()["fragment_stats"]["num_fragments"]
    table.optimize(cleanup_older_than=KEPT)
    records.maintain(KEPT)
    actions = [f"compacted {before} fragments into {table.stats()['fragment_stats']['num_fragments']}"]
    if index_of(table) is None and table.count_rows() >= index_rows:
        from lancedb.index import HnswSq

        # One graph: several would each be searched in part only, and lose neighbours.
        table.create_index(VECTORS, config=HnswSq(distance_type="dot", num_partitions=1))
        actions.append(f"indexed {table.count_rows():,} rows")
    if index_of(table) is not None:
        recall = measured_recall(table)
        records.write(f"gallery/{name}/{RECALL}", json.dumps(recall))
        actions.append(f"measured a recall of {recall:.3f}")
    return actions


def index_of(table: Any) -> Any:  # noqa: ANN401
    """The index of the vectors, or None."""
    return next((index for index in table.list_indices() if index.columns == [VECTORS]), None)


def measured_recall(table: Any) -> float:  # noqa: ANN401
    """The share of the true nearest neighbours that the index finds, for rows spread over the table."""
    places = np.linspace(0, table.count_rows() - 1, QUERIES).astype(int).tolist()
    queries = vectors(table.take_offsets(sorted(set(places))).select([VECTORS]).to_arrow()[VECTORS])
    search = table.search(queries, vector_column_name=VECTORS).distance_type("dot").limit(NEIGHBOURS)
    found = _pairs(search.refine_factor(3).with_row_id(True).select(["_distance"]).to_arrow())
    search = table.search(queries, vector_column_name=VECTORS).distance_type("dot").limit(NEIGHBOURS)
    true = _pairs(search.bypass_vector_index().with_row_id(True).select(["_distance"]).to_arrow())
    return len(found & true) / len(true)


def _pairs(rows: pa.Table) -> set[tuple[int, int]]:
    return set(zip(rows["query_index"].to_pylist(), rows["_rowid"].to_pylist(), strict=True))
