"""Bundles in an object store: copied once, verified, and never half."""

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest

from tests.client.conftest import pictures
from tests.client.processes import serving
from tests.sick_store import SickProxy, sick_store
from vssl.bundle.reading import Bundle, open_bundle
from vssl.errors import BundleError, UsageError
from vssl_client import Client


@pytest.fixture(scope="module")
def store(tiny_bundle: Bundle) -> Iterator[SickProxy]:
    with sick_store("models") as proxy:
        client, packed = boto3.client("s3"), io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in tiny_bundle.location.rglob("*") if path.is_file()):
                name = file.relative_to(tiny_bundle.location).as_posix()
                archive.write(file, name)
                client.put_object(Bucket="models", Key=f"tiny/{name}", Body=file.read_bytes())
        client.put_object(Bucket="models", Key="tiny.zip", Body=packed.getvalue())
        yield proxy


@pytest.fixture(autouse=True)
def cache(store: SickProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "vssl" / "bundles"
    store.harm = lambda method, path: None
    store.requests.clear()


@pytest.mark.parametrize("name", ["tiny", "tiny.zip"])
def test_a_bundle_is_copied_once_though_the_store_is_sick(
    store: SickProxy, name: str, cache: Path, tiny_bundle: Bundle
) -> None:
    seen = 0

    def harm(method: str, path: str) -> int | str | None:
        nonlocal seen
        seen += method == "GET"
        harms: dict[int, int | str] = {1: 503, 2: "cut", 4: "cut"}
        return harms.get(seen) if method == "GET" else None

    store.harm = harm
    bundle = open_bundle(f"s3://models/{name}")
    assert bundle.manifest == tiny_bundle.manifest
    assert bundle.location.parent == cache
    assert [entry.name.removesuffix(".zip") for entry in cache.iterdir()] == [bundle.manifest.id]
    store.harm = lambda method, path: None
    store.requests.clear()
    assert open_bundle(Path(f"s3://models/{name}")).location == bundle.location  # a `Path` has lost a slash
    model = bundle.manifest.models["fp32"].path
    assert not [path for _, path in store.requests if path.endswith(model)]
    assert sum(method == "GET" for method, _ in store.requests) <= 4


def test_a_copy_that_lost_a_file_is_made_again_and_a_changed_byte_is_never_run(store: SickProxy, cache: Path) -> None:
    bundle = open_bundle("s3://models/tiny")
    model = bundle.location / bundle.manifest.models["fp32"].path
    model.unlink()
    assert open_bundle("s3://models/tiny").location == bundle.location
    data = model.read_bytes()
    model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match="does not match its hash"):
        open_bundle("s3://models/tiny")
    shutil.rmtree(bundle.location)
    client = boto3.client("s3")
    key = f"tiny/{bundle.manifest.models['fp32'].path}"
    client.put_object(Bucket="models", Key=key, Body=data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match="does not match its hash"):
        open_bundle("s3://models/tiny")
    assert list(cache.iterdir()) == []
    client.put_object(Bucket="models", Key=key, Body=data)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://models/none", "no bundle there"),
        ("s3://models/none.zip", "no bundle there"),
        ("s3://no-such-bucket/tiny", "no bundle there"),
    ],
)
def test_where_there_is_none(store: SickProxy, address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_bundle(address)


def test_a_client_and_a_server_run_it(store: SickProxy, tiny_bundle: Bundle) -> None:
    images = pictures(3)
    with Client(bundle=tiny_bundle.location) as local:
        wanted = local.embed(images).embedding
    with Client(bundle="s3://models/tiny") as client:
        assert repr(client) == "Client(bundle='s3://models/tiny')"
        np.testing.assert_array_equal(client.embed(images).embedding, wanted)
    with serving(Path("s3://models/tiny.zip")) as url, Client(url) as client:
        np.testing.assert_allclose(client.embed(images).embedding, wanted, atol=1e-5)
