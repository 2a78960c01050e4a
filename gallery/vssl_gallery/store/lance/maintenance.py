"""Keeps a table small and fast: compacts it, indexes it, erases old versions, finds how widely to search the index."""

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from vssl_gallery.store.lance.records import Records
from vssl_gallery.store.perturbed import ENOUGH, perturbed
from vssl_gallery.store.rows import vectors

VECTORS = "embedding"

INDEX = "_index"
"""The record of what was measured of the index."""

KEPT = timedelta(hours=1)
"""How long old versions stay, for those who read them now."""

NEIGHBOURS, QUERIES = 10, 100
"""The recall is that of so many neighbours, for so many queries."""

EFFORTS = (50, 100, 200, 400, 800)
"""How many candidates the index follows at once. The first that reaches the goal is taken."""

REFINE = 3
"""The index ranks by rounded vectors: three times as many as are wanted are ranked again by the true ones."""


@dataclass(frozen=True)
class Measured:
    """How widely to search the index, and the share of the true neighbours that this finds."""

    effort: int
    recall: float


def maintain(table: Any, records: Records, name: str, index_rows: int) -> list[str]:  # noqa: ANN401 — LanceDB has no types
    """Do what is due, and say what was done.

    Args:
        table: its newest version.
        records: where the measurement goes.
        name: the gallery's.
        index_rows: from how many rows on it has an index.
    """
    before = table.stats()["fragment_stats"]["num_fragments"]
    table.optimize(cleanup_older_than=KEPT)
    records.maintain(KEPT)
    actions = [f"compacted {before} fragments into {table.stats()['fragment_stats']['num_fragments']}"]
    rows = table.count_rows()
    if index_of(table) is None and rows >= index_rows:
        from lancedb.index import HnswSq

        # One graph: several would each be searched in part only, and lose neighbours. More links between the rows
        # took three times as long and found hardly more.
        table.create_index(VECTORS, config=HnswSq(distance_type="dot", num_partitions=1, m=16, ef_construction=100))
        actions.append(f"indexed {rows:,} rows")
    if index_of(table) is not None and rows > NEIGHBOURS:
        found = measured(table)
        records.write(f"gallery/{name}/{INDEX}", json.dumps(asdict(found)))
        actions.append(f"measured a recall of {found.recall:.3f} with {found.effort} candidates")
    return actions


def index_of(table: Any) -> Any:  # noqa: ANN401
    """The index of the vectors, or None."""
    return next((index for index in table.list_indices() if index.columns == [VECTORS]), None)


def read_measured(record: str | None) -> Measured:
    """What the record says; before it is there, search widely."""
    return Measured(EFFORTS[-1], 0.0) if record is None else Measured(**json.loads(record))


def by_index(query: Any, k: int, effort: int) -> Any:  # noqa: ANN401 — LanceDB's query
    """The query, answered by the index. It fails with fewer candidates than it ranks again."""
    return query.ef(max(effort, REFINE * k)).refine_factor(REFINE)


def measured(table: Any) -> Measured:  # noqa: ANN401
    """The least effort that reaches the goal, or the most there is, for perturbed rows from all over the table."""
    places = np.linspace(0, table.count_rows() - 1, QUERIES).astype(int)
    own = table.take_offsets(np.unique(places).tolist()).with_row_id().select([VECTORS]).to_arrow()
    rows = own["_rowid"].to_numpy()
    queries = perturbed(vectors(own[VECTORS]))

    def neighbours(effort: int | None) -> set[tuple[int, int]]:
        """Pairs of query and row; the row that a query was does not count, because it is found too easily."""
        k = NEIGHBOURS + 1
        query = table.search(queries, vector_column_name=VECTORS).distance_type("dot").limit(k).with_row_id(True)
        query = query.bypass_vector_index() if effort is None else by_index(query, k, effort)
        found: pa.Table = query.select(["_distance"]).to_arrow()
        pairs = zip(found["query_index"].to_pylist(), found["_rowid"].to_pylist(), strict=True)
        return {(place, row) for place, row in pairs if row != rows[place]}

    true = neighbours(None)
    for effort in EFFORTS:
        recall = len(neighbours(effort) & true) / len(true)
        if recall >= ENOUGH:
            break
    return Measured(effort, recall)
