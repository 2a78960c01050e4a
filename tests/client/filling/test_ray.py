"""Images of a gallery embedded on Ray: what travels to a node and back, and the whole on this machine."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.client.commands.test_gallery import run
from tests.client.conftest import pictures
from tests.client.processes import vssl
from vssl.bundle.reading import Bundle
from vssl_client import Client
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.filling.embedding import embedded
from vssl_client.folder.reading import ImageFile


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


@pytest.mark.slow
def test_ray_fills_a_gallery_as_this_machine_does(tiny_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    source, place = tmp_path / "source", tmp_path / "galleries"
    source.mkdir()
    for number, data in enumerate(pictures(150)):
        (source / f"{number}.png").write_bytes(data)
    (source / "bad.png").touch()
    flags = ["--bundle", str(tiny_bundle.location), "--at", str(place)]
    for name in ("here", "ray"):
        run("create", name, *flags)
    vssl("gallery", "add", "here", source, *flags, status=1)
    vssl("gallery", "add", "ray", source, *flags, "--engine", "ray", status=1)
    with Client(bundle=tiny_bundle.location) as client:
        ours, theirs = (client.gallery(name, at=place) for name in ("here", "ray"))
        columns = ["embedding", "variance", "width", "sha256"]
        one, other = (list(gallery.images(columns=columns)) for gallery in (ours, theirs))
    assert len(one) == 150
    assert [(row.id, row.width, row.sha256) for row in one] == [(row.id, row.width, row.sha256) for row in other]
    for name in ("embedding", "variance"):
        vectors = [np.stack([getattr(row, name) for row in rows]) for rows in (one, other)]
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_ray_runs_a_bundle() -> None:
    assert "--engine ray" in run("add", "x", "source", "--engine", "ray", status=2)
    assert "--ray-address" in run("add", "x", "source", "--ray-address", "auto", status=2)
