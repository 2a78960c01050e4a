"""The rows of `benchmarks.scale` about folders of embeddings: a finished job that is run again, and a search in one."""

import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.report import Row, at_once
from vssl.sources.source import Source
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder.job import embed_source
from vssl_client.formats.columns import Origin
from vssl_client.formats.contract import FormatName, open_format
from vssl_client.neighbours.gallery import open_gallery
from vssl_client.neighbours.look_up import looked_up
from vssl_client.parts.rows import Rows
from vssl_client.results.assembly import Numbers, Provenance, filled
from vssl_client.results.model_info import ModelInfo

PART, DIMENSION, QUERIES = 4096, 64, 256
CONTENT = b"no picture"
ORIGIN = Origin("synthetic", "1", "0" * 64, "synthetic", DIMENSION)
FORMATS: list[FormatName] = ["parquet", "npz", "jsonl"]


class Entries(Source):
    """So many names, all of the same content."""

    def __init__(self, count: int) -> None:
        super().__init__(ORIGIN.source)
        self._count = count

    def paths(self) -> Iterator[str]:
        """Names as long as those of a large set are."""
        return (f"{number // 1000:05}/image-{number:010}.jpg" for number in range(self._count))

    def read(self, path: str, max_bytes: int) -> bytes:
        """The same for all."""
        return CONTENT


class Idle(LocalEmbedder):
    """Tells the model of the folder; a finished job asks nothing else."""

    def __init__(self) -> None:
        self.in_flight = 1

    def model(self) -> ModelInfo:
        """That of the folder."""
        return ModelInfo(ORIGIN.model, ORIGIN.version, ORIGIN.id, DIMENSION, 32)

    def max_image_bytes(self) -> int:
        """Enough."""
        return 2**20


def folder_rows(counts: list[int]) -> list[Row]:
    """What one more entry costs a finished job that is run again, and a search for the neighbours of 256 images."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for format in FORMATS:
            folders = [Path(place, f"{format}-{count}") for count in counts]
            for folder, count in zip(folders, counts, strict=True):
                write(folder, format, count)
            sized = zip(folders, counts, strict=True)
            found = [next(iter(at_once(1, resumed, [(folder, format, count)]))) for folder, count in sized]
            rows.append({"of": f"resume, {format}"} | slope(found, counts, "resumed_us"))
            if format != "jsonl":
                write(Path(place, f"{format}-queries"), format, QUERIES)
                queries = Path(place, f"{format}-queries")
                found = [next(iter(at_once(1, searched, [(queries, folder)]))) for folder in folders]
                rows.append({"of": f"neighbours of {QUERIES}, {format}"} | slope(found, counts, "searched_us"))
    return rows


def write(folder: Path, format: FormatName, count: int) -> None:
    """A folder of so many embeddings drawn at random."""
    folder.mkdir()
    rng, written, names = np.random.default_rng(0), open_format(format), Entries(count).paths()
    for number in range(-(-count // PART)):
        paths = list(islice(names, PART))
        vectors = rng.normal(size=(len(paths), DIMENSION)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = Numbers(vectors, np.zeros_like(vectors), np.zeros(len(paths), np.float32))
        result = filled([None] * len(paths), Provenance(ORIGIN.model, ORIGIN.version), numbers)
        result = replace(result, variance=np.full_like(vectors, np.nan))  # as with --no-variance
        hashes: list[str | None] = [hashlib.sha256(CONTENT).hexdigest()] * len(paths)
        sizes: list[int | None] = [len(CONTENT)] * len(paths)
        part = folder / f"part-{number:06d}{written.SUFFIX}"
        written.write_part(part, ORIGIN, Rows(paths, hashes, sizes, result).as_columns(ORIGIN.dimension))


def resumed(folder: Path, format: FormatName, count: int) -> Row:
    """A finished job, run again."""
    begun = time.process_time()
    done = embed_source(Entries(count), folder, Idle(), format=format)
    assert (done.embedded, done.new) == (count, 0)
    return {"seconds": time.process_time() - begun, "peak": peak()}


def searched(queries: Path, gallery: Path) -> Row:
    """Twenty neighbours of each query."""
    begun = time.process_time()
    assert sum(1 for _ in looked_up(queries, open_gallery(queries, gallery), 20, None, "0.1", "0.05", [])) == QUERIES
    return {"seconds": time.process_time() - begun, "peak": peak()}


def slope(found: list[Row], counts: list[int], name: str) -> Row:
    """µs of work, of all cores together, and bytes at the peak for one more entry."""
    more = counts[-1] - counts[0]
    return {
        name: (found[-1]["seconds"] - found[0]["seconds"]) / more * 1e6,
        "peak_bytes": (found[-1]["peak"] - found[0]["peak"]) / more,
    }


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
