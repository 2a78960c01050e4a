"""The default model: served, embedded with and asked in this process where none is named, and said to be."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import serving, vssl
from tests.command_line import vssl_here
from vssl.bundle import default
from vssl.bundle.reading import Bundle, open_bundle
from vssl.errors import UsageError
from vssl_client import AsyncClient, Client
from vssl_client.parts.stored import read_embeddings
from vssl_client.results.result import EmbeddingResult


def instead_of_the_default(location: Path) -> str:
    return f"from pathlib import Path; from vssl.bundle import default; default.LOCATION = Path({str(location)!r})"


@pytest.fixture
def in_the_box(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small bundle is the default model, here and in a process that runs the line first."""
    monkeypatch.setattr(default, "LOCATION", tiny_bundle.location)
    return instead_of_the_default(tiny_bundle.location)


@pytest.mark.usefixtures("in_the_box")
def test_a_client_without_an_address_asks_it(tiny_bundle: Bundle) -> None:
    images = pictures(5)
    with Client() as client:
        found = client.embed([*images, b"no image"], on_error="return")
        assert client.model().id == tiny_bundle.manifest.id
    assert found.ok.tolist() == [True] * 5 + [False]
    assert_same(found[found.ok], oracle(tiny_bundle, images))
    large = [np.random.default_rng(number).integers(0, 255, (300, 300, 3), np.uint8) for number in range(3)]
    with Client() as client, Client(resize_locally=True) as other:
        np.testing.assert_allclose(other.embed(large).embedding, client.embed(large).embedding, atol=1e-5)


async def ask(images: list[bytes]) -> EmbeddingResult:
    async with AsyncClient() as client:
        return await client.embed(images)


@pytest.mark.usefixtures("in_the_box")
def test_so_does_an_asynchronous_one(tiny_bundle: Bundle) -> None:
    assert_same(asyncio.run(ask(pictures(5))), oracle(tiny_bundle, pictures(5)))


def test_it_embeds_folders_and_says_so(in_the_box: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, data in enumerate(pictures(5)):
        (tmp_path / "data" / f"{number}.png").write_bytes(data)
    done = vssl("embed", tmp_path / "data", "-o", tmp_path / "out", before=in_the_box)
    assert done.stderr == "vssl: no --url and no --bundle, so this is the default model; see `vssl info`\n"
    assert_same(read_embeddings(tmp_path / "out"), oracle(tiny_bundle, pictures(5)))
    quiet = vssl("embed", tmp_path / "data", "-o", tmp_path / "quiet", "--quiet", before=in_the_box)
    assert quiet.stderr == ""


def test_it_is_served_and_described(in_the_box: str, tiny_bundle: Bundle) -> None:
    with serving(None, before=in_the_box) as url, Client(url) as client:
        assert client.model().id == tiny_bundle.manifest.id
    fields = json.loads(vssl("info", "--json", before=in_the_box).stdout)
    manifest = tiny_bundle.manifest
    about = {"path": str(tiny_bundle.location), "encoder_id": manifest.encoder_id}
    assert fields == {**about, **manifest.model_dump(mode="json")}


def test_an_installation_without_one_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(default, "LOCATION", tmp_path / "none")
    with pytest.raises(UsageError, match="no default model: name a bundle"):
        Client()
    none = instead_of_the_default(tmp_path / "none")
    (tmp_path / "data").mkdir()
    commands: list[list[str | Path]] = [["serve"], ["info"], ["embed", tmp_path / "data", "-o", tmp_path / "out"]]
    for words in commands:
        said = vssl(*words, status=2, before=none).stderr
        assert said == "vssl: this installation of vssl has no default model: name a bundle\n"


def test_the_model_for_tiny_pictures_has_a_name(tiny_bundle: Bundle, tmp_path: Path) -> None:
    images, bundle = pictures(5), open_bundle("builtin:tiny")
    expected = oracle(bundle, images)
    with Client(bundle="builtin:tiny") as client:
        assert_same(client.embed(images), expected)
    with serving(Path("builtin:tiny")) as url, Client(url) as client:
        assert client.model().id == bundle.manifest.id
    (tmp_path / "data").mkdir()
    for number, data in enumerate(images):
        (tmp_path / "data" / f"{number}.png").write_bytes(data)
    embed: list[str | Path] = ["embed", tmp_path / "data", "-o", tmp_path / "out", "--bundle"]
    vssl_here(*embed, "builtin:tiny")
    assert_same(read_embeddings(tmp_path / "out"), expected)
    # What an earlier default model has embedded is not gone on with by another, but by its name.
    said = vssl_here(*embed, tiny_bundle.location, status=2).stderr
    assert f"holds embeddings of model default version 1 (id {bundle.manifest.id[:12]}, builtin:tiny)" in said
    assert "--bundle builtin:tiny goes on with them" in said
    (tmp_path / "data" / "more.png").write_bytes(pictures(6)[5])
    assert "6 images embedded" in vssl_here(*embed, "builtin:tiny").stdout


def test_commands_that_only_read_take_the_name_and_those_that_write_refuse_it(tmp_path: Path) -> None:
    vssl_here("verify", "builtin:tiny")
    assert json.loads(vssl_here("info", "builtin:tiny", "--json").stdout)["path"] == str(default.TINY)
    vssl_here("export", "builtin:tiny", "--triton", tmp_path / "models")
    assert {path.name for path in (tmp_path / "models").iterdir()} >= {"default", "default_image"}
    said = vssl_here("calibrate", "builtin:tiny", "--data", tmp_path, status=2).stderr
    assert said.startswith("vssl: builtin:tiny: comes with vssl and stays as it is")
