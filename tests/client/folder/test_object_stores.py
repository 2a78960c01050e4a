"""Images in an object store, embeddings into one, and jobs that are killed, or meet another, while they write there."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest

from tests.client.conftest import pictures
from tests.client.folder.two_nodes import TOGETHER, two_nodes
from tests.client.processes import vssl
from tests.sick_store import SickProxy, sick_store
from vssl.bundle.reading import Bundle, open_bundle
from vssl.errors import UsageError, VsslError
from vssl.objects.path import ObjectPath
from vssl.sources.opening import open_source
from vssl_client import embed_folder, iter_embeddings, read_embeddings
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder import part_writer
from vssl_client.folder.job import embed_source
from vssl_client.formats.contract import FormatName

IMAGES = 48
TINY = "builtin:tiny"


@pytest.fixture(scope="module")
def store() -> Iterator[SickProxy]:
    with sick_store("photographs") as proxy:
        client = boto3.client("s3")
        for number, data in enumerate(pictures(IMAGES)):
            client.put_object(Bucket="photographs", Key=f"set/{number % 3}/{number}.png", Body=data)
        yield proxy


@pytest.fixture(autouse=True)
def healthy(store: SickProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(part_writer, "PART_ROWS", 8)
    monkeypatch.setattr("vssl_client.folder.work.MAX_IMAGES", 8)
    yield
    store.harm = lambda method, path: None
    store.requests.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as files."""
    root = tmp_path_factory.mktemp("files") / "set"
    for number, data in enumerate(pictures(IMAGES)):
        (root / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        (root / f"{number % 3}" / f"{number}.png").write_bytes(data)
    return root


def embed(out: str, embedder: LocalEmbedder, **options: bool) -> int:
    return embed_folder("s3://photographs/set", out, embedder, **options).new  # type: ignore[arg-type]


def paths(out: str) -> list[str]:
    return [path for part in iter_embeddings(out, ["path"]) for path in part.paths]


def test_rows_are_those_of_the_folder_though_the_store_is_sick(
    store: SickProxy, folder: Path, tmp_path: Path, local: LocalEmbedder
) -> None:
    number = 0

    def harm(method: str, path: str) -> int | str | None:
        nonlocal number
        number += 1
        harms: dict[int, int | str] = {0: 503, 3: "cut", 6: 429}
        return harms.get(number % 11)

    store.harm = harm
    assert embed("s3://photographs/rows", local) == IMAGES
    store.harm = lambda method, path: None
    embed_folder(folder, tmp_path / "out", local)
    stored, plain = read_embeddings("s3://photographs/rows"), read_embeddings(tmp_path / "out")
    assert stored.origin == plain.origin
    assert stored.failures == plain.failures == []
    order = [stored.paths.index(path) for path in plain.paths]
    np.testing.assert_allclose(stored.embedding[order], plain.embedding, atol=1e-6)
    assert [stored.hashes[place] for place in order] == plain.hashes
    assert [stored.labels[place] for place in order] == plain.labels
    assert embed("s3://photographs/rows", local) == 0
    # A copy of the images elsewhere is the same source: what is done there is not done again.
    assert embed_folder(folder, "s3://photographs/rows", local).new == 0


JOB = """
import sys
from vssl_client.folder import part_writer, work
part_writer.PART_ROWS = work.MAX_IMAGES = 8
from vssl.cli import main
sys.argv = ["vssl", "embed", "s3://photographs/set", "-o", "s3://photographs/killed", "--bundle", "builtin:tiny", "-q"]
main()
"""


@pytest.mark.parametrize("puts", [(2,), pytest.param((1, 1, 2), marks=pytest.mark.slow)])
def test_killed_while_it_writes_it_goes_on_at_once_and_each_image_has_one_row(
    store: SickProxy, puts: tuple[int, ...]
) -> None:
    for path, _ in ObjectPath("s3://photographs/killed").under():
        (ObjectPath("s3://photographs/killed") / path).unlink()
    for put in puts:  # each run begins with what the killed ones have finished
        job = subprocess.Popen([sys.executable, "-c", JOB], stderr=subprocess.PIPE)
        seen = 0

        def harm(method: str, path: str, job: subprocess.Popen[bytes] = job, put: int = put) -> None:
            nonlocal seen
            seen += method == "PUT"
            if method == "PUT" and seen == put:
                os.kill(job.pid, signal.SIGKILL)  # its part is on its way: the store has it, or not

        store.harm = harm
        assert job.wait(60) == -signal.SIGKILL, job.stderr.read() if job.stderr else ""
        job.communicate()
    store.harm = lambda method, path: None
    before = paths("s3://photographs/killed")
    assert 0 < len(before) < IMAGES
    subprocess.run([sys.executable, "-c", JOB], check=True, timeout=60)
    assert Counter(paths("s3://photographs/killed")) == Counter(open_source("s3://photographs/set").paths())


def test_of_two_jobs_at_once_one_ends_and_no_image_has_two_rows(store: SickProxy) -> None:
    with LocalEmbedder(open_bundle(TINY)) as first, LocalEmbedder(open_bundle(TINY)) as second:
        errors: list[VsslError] = []
        meet = threading.Barrier(2)

        def harm(method: str, path: str) -> None:
            if method == "PUT" and path.endswith("part-000000.parquet") and meet.n_waiting < 2 and not meet.broken:
                meet.wait(30)

        def job(embedder: LocalEmbedder, order: int) -> None:
            # Images in another order make other bytes of the part that both want to write.
            source = open_source("s3://photographs/set")
            if order:
                listed = sorted(source.paths(), reverse=True)
                source.paths = lambda: iter(listed)  # type: ignore[method-assign]
            try:
                embed_source(source, ObjectPath("s3://photographs/both"), embedder)
            except VsslError as error:
                errors.append(error)

        store.harm = harm
        jobs = [threading.Thread(target=job, args=(each, order)) for order, each in enumerate((first, second))]
        for each in jobs:
            each.start()
        for each in jobs:
            each.join(60)
    (error,) = errors
    assert "another vssl process is writing to this folder" in str(error)
    assert sorted(paths("s3://photographs/both")) == sorted(open_source("s3://photographs/set").paths())


def test_failures_are_tried_again_in_their_part_unless_it_has_changed(store: SickProxy, local: LocalEmbedder) -> None:
    client = boto3.client("s3")
    good = client.get_object(Bucket="photographs", Key="set/1/4.png")["Body"].read()
    client.put_object(Bucket="photographs", Key="set/1/4.png", Body=b"no image")
    assert embed_folder("s3://photographs/set", "s3://photographs/again", local).failed == 1
    client.put_object(Bucket="photographs", Key="set/1/4.png", Body=good)
    done = embed_folder("s3://photographs/set", "s3://photographs/again", local, retry_failed=True)
    assert (done.failed, done.new) == (0, 1)
    assert sorted(paths("s3://photographs/again")) == sorted(open_source("s3://photographs/set").paths())
    seen = ObjectPath("s3://photographs/again/part-000000.parquet").seen()
    data = seen.read()
    ObjectPath(seen.address, seen.etag).write(data + b"changed by another")
    with pytest.raises(FileExistsError):
        seen.write(data + b"too late")


def test_overwrite_and_what_a_prefix_may_not_hold(store: SickProxy, local: LocalEmbedder) -> None:
    embed("s3://photographs/over", local)
    assert embed("s3://photographs/over", local, overwrite=True) == IMAGES
    assert len(paths("s3://photographs/over")) == IMAGES
    boto3.client("s3").put_object(Bucket="photographs", Key="over/else.txt", Body=b"x")
    with pytest.raises(UsageError, match=r"holds something else \(else.txt\)"):
        embed("s3://photographs/over", local)


@pytest.mark.parametrize(
    ("out", "format", "message"),
    [
        ("https://127.0.0.1:1/x", "parquet", "a web server is only read"),
        ("s3://photographs", "parquet", "name a folder in the bucket"),
        ("s3://photographs/npz", "npz", "an object store gets Parquet"),
    ],
)
def test_places_that_take_no_embeddings(
    store: SickProxy, local: LocalEmbedder, out: str, format: FormatName, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        embed_folder("s3://photographs/set", out, local, format=format)


@pytest.mark.slow
def test_two_nodes_of_ray_read_the_store_and_the_rows_go_back_into_it(
    store: SickProxy, local: LocalEmbedder, tiny_bundle: Bundle
) -> None:
    """Two raylets on this machine: they share its network, but neither its files nor its source is named by a path."""
    client = boto3.client("s3")
    for number, data in enumerate(pictures(600, seed=1)):
        client.put_object(Bucket="photographs", Key=f"many/{number:03d}.png", Body=data)
    embed_folder("s3://photographs/many", "s3://photographs/alone", local)
    with two_nodes() as address:
        flags: list[str | Path] = ["--engine", "ray", "--ray-address", address, "--json"]
        words: list[str | Path] = ["embed", "s3://photographs/many", "-o", "s3://photographs/shared"]
        done = vssl(*words, "--bundle", tiny_bundle.location, *flags, before=TOGETHER)
    told = json.loads(done.stdout)
    assert (told["embedded"], told["failed"], told["out"]) == (600, 0, "s3://photographs/shared")
    assert len(told["nodes"]) == 2
    alone, shared = read_embeddings("s3://photographs/alone"), read_embeddings("s3://photographs/shared")
    assert shared.paths == alone.paths
    assert shared.hashes == alone.hashes
    np.testing.assert_allclose(shared.embedding, alone.embedding, atol=1e-6)
