"""Images of a gallery embedded on Ray: what travels to a node and back, and the whole on this machine."""

import json
import pickle
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.client.commands.test_gallery import run
from tests.client.conftest import oracle, pictures
from tests.client.folder.two_nodes import TOGETHER, two_nodes
from tests.client.processes import command, vssl
from tests.gallery.store.postgres.server import PostgresServer, until
from tests.sick_store import sick_store
from vssl.bundle.reading import Bundle
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.filling.embedding import embedded
from vssl_client.folder.reading import ImageFile
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vectors


def test_what_a_node_makes_travels_without_the_files(local: LocalEmbedder) -> None:
    files = [ImageFile(f"{number}.png", data, "hash", len(data)) for number, data in enumerate(pictures(3))]
    embed = pickle.loads(pickle.dumps(partial(embedded, thumbnails=True, precision="fp32")))
    sent = pickle.dumps(embed(local, [*files, ImageFile("bad.png", b"no image")]))
    made = pickle.loads(sent)
    assert [file.path for file in made.files] == ["0.png", "1.png", "2.png"]
    assert not any(file.data for file in made.files)
    assert all(thumbnail.startswith(b"\xff\xd8") for _, _, thumbnail in made.pictures)
    assert [path for path, _ in made.failures] == ["bad.png"]
    direct = local.embed_batch([file.data for file in files])
    np.testing.assert_allclose(made.result.embedding, direct.embedding, atol=1e-6)


@contextmanager
def folder_place(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "galleries")


@contextmanager
def postgres_place(_: Path) -> Iterator[str]:
    server = PostgresServer.create("-c fsync=off")
    try:
        yield server.address()
    finally:
        server.remove()


@contextmanager
def s3_place(_: Path) -> Iterator[str]:
    with sick_store("galleries"):
        yield "s3://galleries"


NO_WRITER = (
    TOGETHER
    + """
from vssl_client.filling import sharding
from vssl_client.galleries.blocking import Gallery
sharding.CHUNKS = 1
Gallery.put = None
"""
)
"""The command's own process can't write: what is written, nodes have written."""


@pytest.mark.slow
@pytest.mark.parametrize("place_of", [folder_place, postgres_place, s3_place])
def test_two_nodes_write_their_shards_into_one_gallery(
    tiny_bundle: Bundle, tmp_path: Path, place_of: Callable[[Path], AbstractContextManager[str]]
) -> None:
    """Killed in the middle and run again: every image once, as this machine embeds it."""
    source = tmp_path / "source"
    source.mkdir()
    images = pictures(1200)
    for number, data in enumerate(images):
        (source / f"{number:04d}.png").write_bytes(data)
    (source / "bad.png").touch()
    known = tmp_path / "known.csv"
    known.write_text("path,label\n" + "".join(f"{number:04d}.png,{number % 7}\n" for number in range(1200)))
    with place_of(tmp_path) as place, two_nodes() as cluster:
        flags = ["--bundle", str(tiny_bundle.location), "--at", place]
        run("create", "things", *flags)
        words: list[str | Path] = ["gallery", "add", "things", source, *flags, "--metadata", known, "--json"]
        line = command(*words, "--engine", "ray", "--ray-address", cluster, before=NO_WRITER)
        with closing(open_place(place)) as there, closing(there.open("things")) as store:
            with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as begun:
                until(lambda: store.count() > 100)
                begun.kill()
            done = vssl(*line[3:], status=1, before=NO_WRITER)
            told = json.loads(done.stdout)
            assert (told["embedded"], told["failed"]) == (1200, 1)
            assert told["new"] < 1201
            rows = pa.Table.from_batches(store.scan(None, ["label", "embedding"])).sort_by("id")
    assert rows["id"].to_pylist() == [f"{number:04d}.png" for number in range(1200)]
    assert rows["label"].to_pylist() == [str(number % 7) for number in range(1200)]
    np.testing.assert_allclose(vectors(rows["embedding"]), oracle(tiny_bundle, images).embedding, atol=1e-6)


def test_ray_runs_a_bundle() -> None:
    assert "--engine ray" in run("add", "x", "source", "--engine", "ray", status=2)
    assert "--ray-address" in run("add", "x", "source", "--ray-address", "auto", status=2)
