"""Galleries as they are used: searches over HTTP beside embedding and numpy, filling, and duplicates beside a product.

Images of CIFAR-10 are asked of a gallery of synthetic vectors, embedded by the served model. `classify` should cost
little more than embedding and a bare search by numpy. `--only` leaves out the rest.
"""

import http.client
import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import numpy as np

from benchmarks.embed_folder import in_own_process
from benchmarks.gallery import K, as_rows, by_numpy, clusters
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, listening
from vssl.arrays import Float32s
from vssl.bundle.reading import Bundle, open_bundle
from vssl.images.decoding import DEFAULT_LIMITS
from vssl.search.nearest import normalised
from vssl.sources.opening import open_source
from vssl_gallery.duplicates import BLOCK, Group, groups
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.opening import open_place
from vssl_server.http.galleries.upkeep import MAINTAINED

CLIENTS = (1, 32)
WRITTEN, LABELS = 5000, 10
THRESHOLD, COPIES = 0.98, 50
WAYS = ("served", "add", "duplicates")


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--cifar", required=True, help="an archive with folders `train` and `test`")
    flags.add_argument("--bundle", default="builtin:tiny")
    flags.add_argument("--rows", type=int, default=100_000, help="of the gallery that is asked")
    flags.add_argument("--requests", type=int, default=640, help="for each number of clients")
    flags.add_argument("--duplicates", type=int, nargs="+", default=[250_000], help="rows of 512 numbers to compare")
    flags.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.rows, arguments.requests, arguments.duplicates = 5000, 64, [5000]
    ways = {"served": asked, "add": added, "duplicates": compared}
    rows = [row for name in arguments.only for row in ways[name](arguments)]
    about = {"rows": arguments.rows, "bundle": arguments.bundle, "requests": arguments.requests}
    report("Galleries as they are used", rows, about, arguments.json)


def asked(arguments: Namespace) -> Iterator[Row]:
    """Embedding, search and classification over HTTP, and numpy alone."""
    bundle, source = open_bundle(arguments.bundle), open_source(f"{arguments.cifar}::test")
    images = [source.read(path, DEFAULT_LIMITS.max_bytes) for path in islice(source.paths(), 64)]
    bank = clusters(arguments.rows, bundle.manifest.outputs.dimension, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        fill(folder, bundle, bank)
        with listening([VSSL, "serve", arguments.bundle, "--port", "0", "--galleries", folder]) as server:
            for what, path in (
                ("embed", "/v1/embed"),
                ("search", f"/v1/galleries/bench/search?k={K}"),
                ("classify", "/v1/galleries/bench/classify"),
            ):
                request(server.host, server.port, path, images[:1])  # the first one reads the vectors
                for clients in CLIENTS:
                    yield {"what": what, "clients": clients} | told(
                        server.host, server.port, path, images, clients, arguments.requests
                    )
    queries = clusters(64, bank.shape[1], 0, 1)
    each = [by_itself(queries[row : row + 1], bank) for row in range(64)]
    yield {"what": "numpy, one search", "clients": 1} | percentiles(each) | {"per_s": len(each) / sum(each)}


def fill(folder: str, bundle: Bundle, bank: Float32s) -> None:
    """A calibrated gallery `bench` of these vectors."""
    labels = bank[:, :LABELS].argmax(axis=1)
    uncertainty = np.random.default_rng(0).normal(size=len(bank)).astype(np.float32)
    with closing(open_place(folder)) as place:
        spec = Spec(bundle.manifest.encoder_id, bank.shape[1], {"number": "integer"})
        gallery = Gallery.create(place, "bench", spec)
        for first in range(0, len(bank), WRITTEN):
            part = slice(first, first + WRITTEN)
            rows = as_rows(bank[part], first)
            rows = rows.append_column("label", [[str(label) for label in labels[part]]])
            gallery.add(rows.append_column("uncertainty", [uncertainty[part]]))
        gallery.calibrate()
        # The server shall not begin to build an index, which takes both cores for minutes, while it is measured.
        about = {"version": gallery.store.version(), "rows": len(bank)}
        gallery.store.write_record(MAINTAINED, json.dumps(about))


def request(host: str, port: int, path: str, images: Sequence[bytes]) -> list[float]:
    """Seconds of each request of one client after the other, over one connection."""
    connection, each = http.client.HTTPConnection(host, port, timeout=300), []
    for image in images:
        begun = time.perf_counter()
        connection.request("POST", path, image, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        body = answer.read()
        each.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:300]!r}")
    connection.close()
    return each


def told(host: str, port: int, path: str, images: Sequence[bytes], clients: int, requests: int) -> Row:
    """How long so many clients wait that ask at once."""
    mine = [[images[(n * 7 + client) % len(images)] for n in range(requests // clients)] for client in range(clients)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        each = [seconds for one in pool.map(lambda few: request(host, port, path, few), mine) for seconds in one]
    return percentiles(each) | {"per_s": len(each) / (time.perf_counter() - begun)}


def percentiles(each: Sequence[float]) -> Row:
    """In milliseconds."""
    return {"p50_ms": 1000 * float(np.percentile(each, 50)), "p99_ms": 1000 * float(np.percentile(each, 99))}


def by_itself(query: Float32s, bank: Float32s) -> float:
    """Seconds of one search by numpy."""
    begun = time.perf_counter()
    by_numpy(query, bank)
    return time.perf_counter() - begun


def added(arguments: Namespace) -> Iterator[Row]:
    """`vssl gallery add` of CIFAR-10's images, beside the bare loop of decoding and inference; whole commands."""
    bundle, data = open_bundle(arguments.bundle), f"{arguments.cifar}::{'test' if arguments.quick else 'train'}"
    bare = [sys.executable, "-m", "benchmarks.embed_folder", "--bare", "--data", data]
    images = sum(1 for _ in open_source(data).paths())
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--at", folder, "--bundle", arguments.bundle]
        in_own_process([VSSL, "gallery", "create", "bench", *flags])
        alone, _ = in_own_process([*bare, "--bundle", str(bundle.location)])
        seconds, memory = in_own_process([VSSL, "gallery", "add", "bench", data, *flags])
        yield {"what": "bare loop, images", "per_s": images / alone}
        yield {"what": "vssl gallery add", "per_s": images / seconds, "of the bare": alone / seconds, "ram_mb": memory}


def compared(arguments: Namespace) -> Iterator[Row]:
    """Duplicates, beside the product of all pairs that exact search can't do without."""
    for count in arguments.duplicates:
        vectors = clusters(count, 512, 0, 0)
        copies = vectors[::COPIES]
        noise = np.random.default_rng(0).normal(0, 0.002, copies.shape)
        vectors[1::COPIES] = normalised(copies + noise)[: len(vectors[1::COPIES])]
        none = np.full(count, np.nan)
        begun, cpu = time.perf_counter(), time.process_time()
        found = groups(vectors, [str(row) for row in range(count)], none, none, THRESHOLD)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        blocks = [(start, other) for start in range(0, count, BLOCK) for other in range(start, count, BLOCK)]
        some = np.random.default_rng(0).permutation(len(blocks))[:400]
        begun = time.perf_counter()
        for start, other in (blocks[place] for place in some):
            vectors[start : start + BLOCK] @ vectors[other : other + BLOCK].T
        product = (time.perf_counter() - begun) * len(blocks) / len(some)
        right = sum(str(1 + row * COPIES) in (one.kept, *one.others) for row, one in _first_of(found).items())
        yield {
            "what": f"duplicates of {count:,}",
            "seconds": seconds,
            "cpu_seconds": cpu,
            "product_seconds": product,
            "of the product": seconds / product,
            "recall": right / len(vectors[1::COPIES]),
        }


def _first_of(found: Sequence[Group]) -> dict[int, Group]:
    """The groups by the number of the copied row that they hold."""
    members = ((one, int(name)) for one in found for name in (one.kept, *one.others))
    return {row // COPIES: one for one, row in members if row % COPIES == 0}


if __name__ == "__main__":
    main()
