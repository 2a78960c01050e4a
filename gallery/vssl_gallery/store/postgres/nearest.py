"""Search in SQL: exact, or by the index with its candidates ranked exactly.

The index knows nothing of filters: it hands out its nearest rows, and few of them may match. So the filter is counted
first. If few rows match, they are taken out and compared one by one, which is exact and quick. If many do, the index
goes on until it has found enough. A query that it leaves short all the same is answered exactly.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from vssl.arrays import Float32s
from vssl_gallery.store.filters import Filter
from vssl_gallery.store.postgres.conditions import Condition
from vssl_gallery.store.postgres.database import Database
from vssl_gallery.store.postgres.tables import column_name, half, rows_table

FEW = 10_000
"""Rows that are compared one by one: about 5 ms a query at 512 numbers."""

CANDIDATES = 4
"""For each neighbour, as many rows of the index are ranked by their exact similarity."""

EFFORTS = (100, 200, 400, 800)
"""Of the search in the graph (`hnsw.ef_search`): maintenance takes the least that finds enough of the true nearest."""

_MOST_EFFORT = 1000
"""Of pgvector."""

Nearest = list[tuple[Any, ...]]
"""Rows of `place of the query, similarity, id, columns …`, by query, the most similar first."""


class Search:
    """The k nearest rows of one gallery's table to each of Q queries, within one transaction."""

    def __init__(
        self, cursor: psycopg.Cursor[Any], number: int, k: int, where: Filter | None = None, columns: Sequence[str] = ()
    ) -> None:
        self._cursor, self._k = cursor, k
        self._condition = Condition(where)
        self._parts = {
            "table": rows_table(number),
            "condition": self._condition.text,
            "columns": _listed(columns),
            "join": sql.SQL("JOIN {} AS rows USING (key)" if columns else "").format(rows_table(number)),
        }

    def exact(self, vectors: Float32s, few: bool = False) -> Nearest:
        """Every row that matches is compared; few of them are taken out once for all queries."""
        return self._asked(_EXACT, vectors, materialized=sql.SQL("MATERIALIZED" if few else "NOT MATERIALIZED"))

    def indexed(self, vectors: Float32s, rows: int, effort: int) -> tuple[Nearest, bool]:
        """By the index, and whether that was exact; `rows` is how many the gallery has, `effort` one of `EFFORTS`."""
        if self._few():
            return self.exact(vectors, few=True), True
        wanted = min(self._k, rows) if self._condition.where is None else self._k
        found = self._by_index(vectors, effort)
        places = np.fromiter((row[0] for row in found), np.int64, len(found))
        short = np.flatnonzero(np.bincount(places, minlength=len(vectors)) < wanted)
        if not len(short):
            return found, False
        kept = [row for row in found if row[0] not in set(short.tolist())]
        again = [(int(short[row[0]]), *row[1:]) for row in self.exact(vectors[short])]
        return sorted(kept + again, key=lambda row: (row[0], -row[1])), len(short) == len(vectors)

    def _few(self) -> bool:
        """Whether few rows match."""
        if self._condition.where is None:
            return False
        most = max(FEW, CANDIDATES * self._k)
        self._cursor.execute(_COUNT.format(**self._parts), {**self._condition.values, "more": most + 1})
        (count, _) = self._cursor.fetchone() or (0, None)
        return bool(count <= most)

    def _by_index(self, vectors: Float32s, effort: int) -> Nearest:
        wanted = min(max(CANDIDATES * self._k, effort), _MOST_EFFORT)
        self._cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", (str(wanted),))
        return self._asked(_INDEXED, vectors, half=half(vectors.shape[1]))

    def _asked(self, statement: sql.SQL, vectors: Float32s, **parts: sql.Composable) -> Nearest:
        bound = {**self._condition.values, "vectors": list(vectors), "k": self._k, "candidates": CANDIDATES * self._k}
        return self._cursor.execute(statement.format(**self._parts, **parts), bound).fetchall()


def by_index(
    database: Database, number: int, vectors: Float32s, k: int, columns: Sequence[str]
) -> tuple[Nearest, int] | None:
    """The k nearest rows of a gallery, without a filter, and the version, in one trip to the server; None where this is
    not enough: there is no index, it finds too few, or the gallery is gone.
    """
    one = len(vectors) == 1
    bound = {"vector": vectors[0]} if one else {"vectors": list(vectors)}
    found = database.ask(_at_once(number, vectors.shape[1], k, tuple(columns), one), bound, prepared=one)
    if not found or found[0][2] is None:
        return None
    version, rows = found[0][:2]
    nearest = [row[3:] for row in found if row[5] is not None]
    places = np.fromiter((row[0] for row in nearest), np.int64, len(nearest))
    enough = np.bincount(places, minlength=len(vectors)) >= min(k, rows)
    return (nearest, int(version)) if enough.all() else None


@lru_cache(256)
def _at_once(number: int, dimension: int, k: int, columns: tuple[str, ...], one: bool) -> bytes:
    """The statement. Numbers of ours stand in it, so that the server knows them when it makes a plan for any vector."""
    parts = {
        "number": sql.Literal(number),
        "table": rows_table(number),
        "half": half(dimension),
        "k": sql.Literal(k),
        "candidates": sql.Literal(CANDIDATES * k),
        "most": sql.Literal(_MOST_EFFORT),
        "queries": _ONE if one else _SEVERAL,
        "columns": _listed(columns),
        "join": sql.SQL("LEFT JOIN {} AS rows USING (key)" if columns else "").format(rows_table(number)),
    }
    return _AT_ONCE.format(**parts).as_bytes()


def _listed(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL("").join(sql.SQL(", rows.{}").format(column_name(name)) for name in columns)


# What few rows take in memory is no reason to write them to a temporary file.
_COUNT = sql.SQL("""
SELECT (SELECT count(*) FROM (SELECT FROM {table} WHERE {condition} LIMIT %(more)s) AS matching),
       set_config('work_mem', '64MB', true)
""")

# The server expects ten vectors in an array that it does not know yet: a plan for any vector would look dear.
_ONE = sql.SQL("(SELECT %(vector)b::vector AS vector, 1 AS place) AS query")
_SEVERAL = sql.SQL("unnest(%(vectors)b::vector[]) WITH ORDINALITY AS query (vector, place)")

# `rows` is joined last, if at all, so that other columns are read of the k nearest alone.
_EXACT = sql.SQL("""
WITH matching AS {materialized} (SELECT key, id, embedding FROM {table} WHERE {condition})
SELECT (query.place - 1)::int, nearest.similarity, nearest.id{columns}
FROM unnest(%(vectors)b::vector[]) WITH ORDINALITY AS query (vector, place)
CROSS JOIN LATERAL (
    SELECT key, id, -(embedding <#> query.vector) AS similarity FROM matching
    ORDER BY embedding <#> query.vector LIMIT %(k)s
) AS nearest
{join}
ORDER BY query.place, nearest.similarity DESC, nearest.key
""")

_INDEXED = sql.SQL("""
SELECT (query.place - 1)::int, nearest.similarity, nearest.id{columns}
FROM unnest(%(vectors)b::vector[]) WITH ORDINALITY AS query (vector, place)
CROSS JOIN LATERAL (
    SELECT key, id, -(embedding <#> query.vector) AS similarity
    FROM (
        SELECT key, id, embedding FROM {table} WHERE {condition}
        ORDER BY embedding::{half} <#> query.vector::{half} LIMIT %(candidates)s
    ) AS candidates
    ORDER BY embedding <#> query.vector LIMIT %(k)s
) AS nearest
{join}
ORDER BY query.place, nearest.similarity DESC, nearest.key
""")

# The inner query needs the outer one's column, so that the index is searched when the setting has been made.
_AT_ONCE = sql.SQL("""
SELECT state.version, state.rows, state.effort, (query.place - 1)::int, nearest.similarity, nearest.id{columns}
FROM (
    SELECT version, rows, effort, set_config(
        'hnsw.ef_search', least(greatest(effort, {candidates}), {most})::text, true
    ) AS wide
    FROM vssl.galleries WHERE number = {number}
) AS state
CROSS JOIN {queries}
LEFT JOIN LATERAL (
    SELECT key, id, -(embedding <#> query.vector) AS similarity
    FROM (
        SELECT key, id, embedding FROM {table} WHERE state.effort IS NOT NULL AND state.wide IS NOT NULL
        ORDER BY embedding::{half} <#> query.vector::{half} LIMIT {candidates}
    ) AS candidates
    ORDER BY embedding <#> query.vector LIMIT {k}
) AS nearest ON true
{join}
ORDER BY query.place, nearest.similarity DESC, nearest.key
""")
