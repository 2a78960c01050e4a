"""Fixtures that all parts share: a real small bundle, real images, and every kind of bad file."""

import os
import signal
import zipfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny_model import tiny_calibration, tiny_references, write_tiny_bundle
from vssl.bundle.reading import Bundle

# Examples differ in time (the first one imports and compiles), and this machine is not a stopwatch.
settings.register_profile("vssl", deadline=None)
settings.load_profile("vssl")

# As `vssl train` does, and before torch loads its OpenMP: on a busy machine threads that spin make seconds minutes.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# A shell that starts us in the background has SIGINT ignored, and every process that a test interrupts inherits that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FASHION = Path(__file__).parents[1] / "demo" / "fashion-mnist.zip"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose model is real and small; no torch needed."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def calibrated_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same model with a calibration on labelled images, and with reference vectors."""
    record, files = tiny_references()
    calibration = tiny_calibration() | {"familiarity": record}
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "calibrated", "calibrated", calibration, files=files)


@pytest.fixture(scope="session")
def fashion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 real images in two class folders, as files on disk."""
    folder = tmp_path_factory.mktemp("fashion")
    with zipfile.ZipFile(FASHION) as archive:
        for name in archive.namelist():
            if name.startswith(("test/bag/", "test/coat/")) and int(Path(name).stem) < 20:
                archive.extract(name, folder)
    return folder / "test"
