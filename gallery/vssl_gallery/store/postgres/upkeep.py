"""Maintenance of a gallery's table: the room that old rows take, its index, and the index's recall."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import psycopg
from psycopg import sql

from vssl_gallery.store.contract import Spec
from vssl_gallery.store.perturbed import ENOUGH, perturbed
from vssl_gallery.store.postgres.database import Connection
from vssl_gallery.store.postgres.nearest import EFFORTS, Nearest, Search
from vssl_gallery.store.postgres.tables import LOCKS, half, index_identifier, index_name, rows_table

INDEX_FROM = 20_000
"""Rows; below, comparing all of them takes about 15 ms at 512 numbers."""

INDEXABLE = 4000
"""Numbers of an embedding that pgvector can index as float16."""

_LEAST = 64
"""Megabytes of the server to build the index in. At most it is half of its `effective_cache_size`, which says how large
the machine is; an index that needs more takes much longer.
"""

_ROW_BYTES = 800
"""Of the graph in memory for each row, beside its float16 numbers: pgvector's notice of a full memory comes after
16 MB / (715 + 2 D) rows, for D from 64 to 1536.
"""

_BREADTH = 128
"""Of the search that places a new row in the graph (`ef_construction`): twice pgvector's, for a third more time."""

_SAMPLE, _NEIGHBOURS = 100, 10


def maintain(connection: Connection, number: int, spec: Spec) -> Iterator[str]:
    """Do what is due, and say what was done, step by step.

    Args:
        connection: outside any transaction; others read and write meanwhile.
        number: the gallery's.
        spec: the gallery's.
    """
    if connection.execute("SELECT pg_try_advisory_lock(%s, %s::int)", (LOCKS, number)).fetchone() != (True,):
        yield "did nothing: another maintenance of this gallery is under way"
        return
    connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(rows_table(number)))
    yield "freed what deleted and replaced rows took"
    count = connection.execute("SELECT rows FROM vssl.galleries WHERE number = %s", (number,)).fetchone()
    rows = int(count[0]) if count else 0
    if _index_state(connection, number) is not True and rows >= INDEX_FROM and spec.dimension <= INDEXABLE:
        whole = _build(connection, number, spec.dimension, rows)
        slowly = "" if whole else ", in part slowly: let the server's effective_cache_size say how much memory it has"
        yield f"built the index of {rows:,} rows{slowly}"
    if _index_state(connection, number):
        effort, recall = _tuned(connection, number, rows)
        connection.execute(
            "UPDATE vssl.galleries SET effort = %s, recall = %s WHERE number = %s", (effort, recall, number)
        )
        yield f"measured the index: it finds {recall:.3f} of the true {_NEIGHBOURS} nearest"


def _index_state(connection: Connection, number: int) -> bool | None:
    """Whether the index is whole; None where there is none."""
    asked = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
    found = connection.execute(asked, (f"vssl.{index_name(number)}",)).fetchone()
    return None if found is None else bool(found[0])


def _build(connection: Connection, number: int, dimension: int, rows: int) -> bool:
    """Whether the memory was enough; rows that come after it is full take many times as long."""
    _drop(connection, number)  # what an interrupted run left
    wanted = max(rows * (2 * dimension + _ROW_BYTES) >> 20, _LEAST)
    connection.execute(
        "SELECT set_config('maintenance_work_mem', least(%s, greatest(%s, pg_size_bytes("
        "current_setting('effective_cache_size')) / 2097152)) || 'MB', false)",
        (wanted, _LEAST),
    )
    parts = (sql.Identifier(index_name(number)), rows_table(number), half(dimension), sql.Literal(_BREADTH))
    statement = sql.SQL(
        "CREATE INDEX CONCURRENTLY {} ON {} USING hnsw ((embedding::{}) halfvec_ip_ops) WITH (ef_construction = {})"
    ).format(*parts)
    notices: list[str] = []

    def notice(told: psycopg.errors.Diagnostic) -> None:
        notices.append(told.message_primary or "")

    connection.add_notice_handler(notice)
    try:
        connection.execute(statement)
    except psycopg.Error:
        with suppress(psycopg.Error):  # a broken index would slow every write down
            _drop(connection, number)
        raise
    finally:
        connection.remove_notice_handler(notice)
    return not any("no longer fits" in one for one in notices)


def _drop(connection: Connection, number: int) -> None:
    connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index_identifier(number)))


def _tuned(connection: Connection, number: int, rows: int) -> tuple[int, float]:
    """The effort of searches that finds enough, and the share of the true nearest rows that it finds.

    The queries are perturbed rows of the gallery.
    """
    sample = sql.SQL("SELECT embedding FROM {0} WHERE key IN (SELECT key FROM {0} ORDER BY random() LIMIT %s)")
    with connection.transaction(), connection.cursor(binary=True) as cursor:
        vectors = cursor.execute(sample.format(rows_table(number)), (_SAMPLE,)).fetchall()
        queries = perturbed(np.stack([vector.to_numpy() for (vector,) in vectors]))
        search = Search(cursor, number, _NEIGHBOURS + 1)  # each finds the row that it was
        true = search.exact(queries)
        for effort in EFFORTS:
            found = recall(search.indexed(queries, rows, effort)[0], true, len(queries))
            if found >= ENOUGH:
                break
    return effort, found


def recall(found: Nearest, true: Nearest, queries: int) -> float:
    """The share of the true neighbours' similarities that were reached; the first of each query does not count."""
    reached = wanted = 0
    for place in range(queries):
        similarities = [row[1] for row in true if row[0] == place][1:]
        least = similarities[-1] - 1e-6 if similarities else 0.0
        wanted += len(similarities)
        reached += min(sum(row[1] >= least for row in found if row[0] == place) - 1, len(similarities))
    return reached / max(wanted, 1)
