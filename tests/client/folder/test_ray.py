"""The job on Ray Data: what its actors do, and the whole on a local cluster of two nodes."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.folder.two_nodes import TOGETHER, two_nodes
from tests.client.processes import vssl
from tests.paths import ROOT
from vssl.bundle.reading import Bundle
from vssl.sources.opening import open_source
from vssl.sources.selections import Listed
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder.ray import carried, reader
from vssl_client.parts.finding import parts_of
from vssl_client.parts.stored import read_embeddings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """1,200 images, and one that is none."""
    (tmp_path / "data").mkdir()
    for number, data in enumerate(pictures(1200)):
        (tmp_path / "data" / f"{number:04d}.png").write_bytes(data)
    (tmp_path / "data" / "bad.jpg").touch()
    return tmp_path / "data"


def test_a_bundle_travels_with_its_model(tiny_bundle: Bundle) -> None:
    arrived = pickle.loads(pickle.dumps(carried(tiny_bundle)))
    images = pictures(20)
    with LocalEmbedder(arrived, threads=1) as embedder:
        assert embedder.model().id == tiny_bundle.manifest.id
        assert_same(embedder.embed_batch(images), oracle(tiny_bundle, images))


def test_another_node_reads_the_same_files(
    fashion_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fashion_folder.parent)
    name = next(fashion_folder.rglob("*.png")).relative_to(fashion_folder.parent)
    sources = {"test": open_source("test"), "test/*/*": open_source("test/*/*"), "-": Listed([bytes(name)])}
    found = {location: pickle.loads(pickle.dumps(reader(source, location))) for location, source in sources.items()}
    paths = {location: next(source.paths()) for location, source in sources.items()}
    monkeypatch.chdir(tmp_path)
    for location, path in paths.items():
        assert found[location].read(path, 10**6) == (fashion_folder / path.removeprefix("test/")).read_bytes()
        sources[location].close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with two_nodes() as address:
        yield address


@pytest.mark.slow
def test_two_nodes_share_a_job_that_goes_on(folder: Path, tmp_path: Path, tiny_bundle: Bundle, cluster: str) -> None:
    """Begun here, and finished there: the rows are those of one machine, and both nodes have done some."""
    here, both = tmp_path / "here", tmp_path / "both"
    vssl("embed", folder, "--bundle", tiny_bundle.location, "-o", here, status=1)
    later = {path: path.read_bytes() for path in sorted(folder.glob("*.png"))[300:]}
    for path in later:
        path.unlink()
    vssl("embed", folder, "--bundle", tiny_bundle.location, "-o", both, status=1)
    begun = {part.name: part.read_bytes() for part in parts_of(both)}
    for path, data in later.items():
        path.write_bytes(data)
    flags: list[str | Path] = ["--engine", "ray", "--ray-address", cluster, "--json"]
    done = vssl("embed", folder, "--bundle", tiny_bundle.location, "-o", both, *flags, status=1, before=TOGETHER)
    told = json.loads(done.stdout)
    assert (told["embedded"], told["failed"], told["new"]) == (1200, 1, 900)
    assert len(told["nodes"]) == 2
    assert sum(told["nodes"].values()) == 900
    assert begun.items() < {part.name: part.read_bytes() for part in parts_of(both)}.items()
    expected, found = read_embeddings(here), read_embeddings(both)
    assert found.paths == expected.paths
    assert found.failures == expected.failures == [("bad.jpg", "empty: the file is empty (0 bytes)")]
    assert_same(found, oracle(tiny_bundle, pictures(1200)))


@pytest.mark.slow
def test_an_archive_of_lists_and_no_cluster(
    fashion_folder: Path, tmp_path: Path, tiny_bundle: Bundle, cluster: str
) -> None:
    flags: list[str | Path] = ["--bundle", tiny_bundle.location, "--engine", "ray", "--ray-address"]
    archive = ROOT / "demo" / "fashion-mnist.zip"
    vssl("embed", f"{archive}::test", *flags, cluster, "-o", tmp_path / "zip")
    assert read_embeddings(tmp_path / "zip").paths == list(open_source(f"{archive}::test").paths())
    wrong = vssl("embed", fashion_folder, *flags, "127.0.0.1:9", "-o", tmp_path / "none", status=2)
    assert "no Ray cluster at 127.0.0.1:9" in wrong.stderr
