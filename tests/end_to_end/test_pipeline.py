"""The whole product as a user drives it: train → export → serve → embed, on real images, by the commands alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.bad_files import bad_files
from tests.conftest import FASHION
from tests.paths import ROOT
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_client.parts.stored import read_embeddings

VSSL = str(Path(sys.executable).parent / "vssl")
SMALL = [
    "network.width=8",
    "network.dimension=16",
    "network.embedding.whiten.dimension=16",
    "network.projector.hidden=32",
    "optimiser.batch=16",
    "variance.batch=16",
]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every command here runs for a user with an empty home, and at the end nothing lies in it that is not ours."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        yield folder
    strange = [path for path in folder.rglob("*") if path.is_file() and "vssl" not in path.parts]
    assert strange == []


def environment() -> dict[str, str]:
    """Ours, less what importing vssl has set in this process."""
    return {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}


def vssl(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [VSSL, *arguments], capture_output=True, text=True, check=False, timeout=200, env=environment()
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@contextmanager
def server(bundle: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [VSSL, "serve", str(bundle), "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    try:
        ready = next(line for line in process.stderr if " on http://" in line)
        yield ready.split(" on ")[-1].strip()
    finally:
        process.terminate()
        process.stderr.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, fashion_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    flags = [part for assignment in SMALL for part in ("--set", assignment)]
    vssl("train", "--data", str(fashion_folder), "--out", str(folder / "run"), "--steps", "30", *flags)
    vssl("export", str(folder / "run"), "--out", str(folder / "bundle"), "--name", "small")
    vssl("calibrate", str(folder / "bundle"), "--data", f"{FASHION}::test")
    vssl("verify", str(folder / "bundle"))
    vssl("evaluate", str(folder / "bundle"), "--data", str(fashion_folder))
    return folder / "bundle"


def test_embeddings_through_the_server_in_process_and_by_the_engine_are_the_same(
    bundle: Path, fashion_folder: Path, tmp_path: Path
) -> None:
    with server(bundle) as url:
        vssl("embed", str(fashion_folder), "--url", url, "-o", str(tmp_path / "served"))
    vssl("embed", str(fashion_folder), "--bundle", str(bundle), "-o", str(tmp_path / "local"))
    opened = open_bundle(bundle)
    images = load_images(open_source(str(fashion_folder)), opened.manifest.preprocessing)
    expected = Engine(opened)(images.pixels)
    for name in ("served", "local"):
        table = read_embeddings(tmp_path / name)
        assert table.paths == images.paths
        np.testing.assert_allclose(table.embedding, expected.embedding, atol=1e-6)
        np.testing.assert_allclose(table.variance, expected.variance, rtol=1e-5)
        np.testing.assert_allclose(table.uncertainty, expected.uncertainty, atol=1e-5)


def test_bad_files_cost_nothing_but_themselves_on_every_road(bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, content in bad_files().items():
        (data / name).write_bytes(content)
    good = next(path for path in bundle.parent.parent.rglob("test/bag/0000.png"))
    (data / "good.png").write_bytes(good.read_bytes())
    with server(bundle) as url:
        for number, way in enumerate((["--url", url], ["--bundle", str(bundle)])):
            out = tmp_path / f"out{number}"
            done = vssl("embed", str(data), *way, "-o", str(out), status=1)
            assert all(name in done.stderr for name in bad_files())
            assert read_embeddings(out).paths == ["good.png"]


def test_the_wheel_holds_the_six_packages_the_recipes_and_the_default_model(tmp_path: Path) -> None:
    import zipfile

    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(hatchling, cwd=ROOT, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"vssl", "vssl_gallery", "vssl_client", "vssl_server", "vssl_training", "vssl_export"} <= tops
    assert "vssl_training/recipe/recipes/quick.yaml" in names
    for model in ("default_model", "tiny_model"):
        assert {f"vssl/bundle/{model}/{name}" for name in ("manifest.json", "model.onnx", "README.md")} <= set(names)
    assert sum(name.endswith("py.typed") for name in names) == 6
    assert not any(name.endswith((".zip", ".jpg", ".png")) for name in names)
