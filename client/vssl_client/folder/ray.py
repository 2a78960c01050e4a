"""A job's work on Ray Data: actors on every node read, decode and embed; what they make comes back here, in order.

The job itself (which images, what is done already) stays where it is, so one begun on one machine can be finished on a
cluster, and the other way round. Ray, an optional extra, is imported when the work begins.
"""

import logging
import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import pyarrow as pa

from vssl.bundle.reading import Bundle, open_bundle
from vssl.errors import UsageError
from vssl.objects.address import address_of
from vssl.sources.folder import Folder
from vssl.sources.opening import open_source
from vssl.sources.selections import Listed
from vssl.sources.source import Source
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.errors import ClientError
from vssl_client.folder.contract import Embed
from vssl_client.folder.reading import Reader
from vssl_client.folder.work import embed_paths, embedded_rows
from vssl_client.parts.rows import Rows

T = TypeVar("T")

NodeWork = Callable[[Reader, Embedder, list[str], Any], list[T]]
"""What a node makes of a chunk of paths, and of what else it was given for them."""

TASK_CHUNKS = 4
"""Chunks of at most 64 images in one task: enough to make the hand-over cheap."""

ROUND_TASKS = 4096
"""Tasks that Ray gets at once, so the list held here is of about a million images, not of any length."""


@dataclass(frozen=True)
class CarriedBundle(Bundle):
    """A bundle that carries its files, so the nodes need no copy of it."""

    files: Mapping[str, bytes]

    def read(self, name: str) -> bytes:
        """The bytes of one file, verified when it was packed."""
        return self.files[name]


def carried(bundle: Bundle) -> CarriedBundle:
    """The bundle with the file of its model, all that embedding needs."""
    path = bundle.manifest.models["fp32"].path
    return CarriedBundle(bundle.manifest, bundle.location, {path: bundle.read(path)})


class EmbedFiles:
    """One actor, on one core: holds the model, and embeds the files at the given paths.

    Args:
        bundle: the model.
        where: the source, or its location on this node.
        work: what it does with them.
    """

    def __init__(self, bundle: CarriedBundle, where: Source | str, work: NodeWork[Any]) -> None:
        import ray

        self._work = work
        self._embedder = LocalEmbedder(bundle, threads=1)
        source = open_source(where) if isinstance(where, str) else where
        self._reader = Reader(source, self._embedder.max_image_bytes())
        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self, task: pa.Table) -> pa.Table:
        """`paths`, a list in each row, and what is `given` for them → `made`, pickled, how many `images`, and the
        `node`, in each row.
        """
        chunks: list[list[str]] = task["paths"].to_pylist()
        given = map(pickle.loads, task["given"].to_pylist())
        made = [self._work(self._reader, self._embedder, *one) for one in zip(chunks, given, strict=True)]
        packed = pa.array(map(pickle.dumps, made), pa.large_binary())
        return pa.table({"made": packed, "images": list(map(len, chunks)), "node": [self._node] * len(chunks)})


class RayWork(Generic[T]):
    """`work` for `embed_source`, and a connection to a cluster for as long as a `with` block lasts.

    `images_of_nodes` counts the images that each node has embedded.

    Args:
        source: the images. Folders and archives must lie at the same place on every node.
        location: the name that opened `source`.
        bundle: the model; it is sent to the nodes.
        work: what a node does; it is sent there.
        address: of the cluster that this machine is a node of, `auto` or `head:6379`; None starts Ray here.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at `address`.
    """

    def __init__(self, source: Source, location: str, bundle: Path, work: NodeWork[T], address: str | None) -> None:
        # Otherwise Ray sends figures of its use home, and its core writes warnings between our lines.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray
            import ray.data
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--engine ray needs {error.name}, which is not installed: pip install 'vssl[ray]'"
            ) from error
        self.images_of_nodes: Counter[str] = Counter()
        self._where = reader(source, location)
        self._bundle, self._work = carried(open_bundle(bundle)), work
        self._ray: Any = ray
        try:
            if address is not None and address != "auto":  # Ray itself takes minutes to give up
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=5).close()
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"no Ray cluster at {address}: {error}") from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    @contextmanager
    def __call__(self, todo: Iterator[list[str]]) -> Iterator[Iterator[T]]:
        """What is made of each batch of files, in order."""
        yield self.made(((paths, None) for paths in todo), TASK_CHUNKS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def made(self, todo: Iterator[tuple[list[str], object]], chunks: int) -> Iterator[T]:
        """What is made of paths and what is given for them, so many chunks in one task, in order."""
        tasks = iter(lambda: list(islice(todo, chunks)), [])
        for first in tasks:
            yield from self._round([first, *islice(tasks, ROUND_TASKS - 1)])

    def _round(self, tasks: list[list[tuple[list[str], object]]]) -> Iterator[T]:
        data = self._ray.data
        context = data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        tables = [
            pa.table({"paths": [paths for paths, _ in task], "given": [pickle.dumps(given) for _, given in task]})
            for task in tasks
        ]
        embedded = data.from_arrow(tables).map_batches(
            EmbedFiles,
            fn_constructor_args=(self._bundle, self._where, self._work),
            batch_format="pyarrow",
            batch_size=None,
            compute=data.ActorPoolStrategy(size=min(cores, len(tasks))),
            num_cpus=1,
        )
        try:
            for batch in embedded.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    self.images_of_nodes[row["node"]] += row["images"]
                    yield from pickle.loads(row["made"])
        except self._ray.exceptions.RayError as error:
            raise ClientError(f"Ray could not go on: {error}") from error


@dataclass(frozen=True)
class EmbedEach(Generic[T]):
    """A `NodeWork`: makes something of each batch of files."""

    embed: Embed[T]

    def __call__(self, reader: Reader, embedder: Embedder, paths: list[str], _: object) -> list[T]:
        """In order."""
        return embed_paths(reader, embedder, paths, self.embed)


def rows_on_nodes(source: Source, location: str, bundle: Path, address: str | None) -> RayWork[Rows]:
    """The rows of parts, embedded on a cluster; errors as `RayWork`."""
    return RayWork(source, location, bundle, EmbedEach(embedded_rows), address)


class Files(Folder):
    """Files named by paths from a working directory."""

    def label(self, path: str) -> None:
        """None: the folders of listed files are not labels."""


def reader(source: Source, location: str) -> Source | str:
    """The same files for another node: a source that can be sent, or the location that opens one there."""
    if isinstance(source, Listed):
        return Files(Path.cwd())
    if isinstance(source, Folder):
        return Folder(source.root.resolve())
    if address_of(location) is not None:
        return location
    # Not resolved: a link may lead elsewhere on another node, and shards-{000..009}.tar is not a file.
    return str(Path.cwd() / location)
