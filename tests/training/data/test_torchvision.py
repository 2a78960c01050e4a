"""torchvision's data sets by name, written to disk in their own formats where they need files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images
from vssl_training.data.torchvision import open_data


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """CIFAR-10's files with eight images a batch, and the pixels of all batches."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)  # the hashes are those of the real files
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3, 32, 32), dtype=np.uint8)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        batch = {"data": pixels[number].reshape(8, -1), "labels": [0, 1, 2, 3, 0, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(batch))
    names = ["airplane", "automobile", "bird", "cat"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return tmp_path, pixels.transpose(0, 1, 3, 4, 2)


@pytest.mark.parametrize(("split", "batches"), [("", slice(0, 5)), (":train", slice(0, 5)), (":test", slice(5, 6))])
def test_cifar10_bit_by_bit(cifar: tuple[Path, np.ndarray], split: str, batches: slice) -> None:
    root, pixels = cifar
    source = open_data(f"torchvision:CIFAR10{split}@{root}")
    images = load_images(source, Preprocessing(32))
    np.testing.assert_array_equal(images.pixels, pixels[batches].reshape(-1, 32, 32, 3))
    assert images.classes == ["airplane", "automobile", "bird", "cat"]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3] * (len(images) // 8)


def test_a_set_without_files() -> None:
    images = load_images(open_data("torchvision:FakeData"), Preprocessing(16))
    assert len(images) == 1000
    assert len(images.classes) == 10


def test_svhn_has_digits_for_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN

    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [1], [5]])})
    source = open_data(f"torchvision:SVHN:test@{tmp_path}")
    assert list(source.paths()) == ["1/0000000.bmp", "0/0000001.bmp", "1/0000002.bmp", "5/0000003.bmp"]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("torchvision:CIFAR", "no data set 'CIFAR'; there are .*CIFAR10"),
        ("torchvision:CIFAR10:half", "CIFAR10 has no split 'half'"),
        ("torchvision:SVHN:half", "Unknown value 'half' for argument split"),
        ("torchvision:ImageNet@/nowhere", "ImageNet@/nowhere: "),
    ],
)
def test_what_torchvision_has_not(location: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_data(location)
