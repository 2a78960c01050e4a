"""A finished small run, exported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.conftest import finished_run, small_recipe
from vssl.bundle.reading import Bundle, open_bundle
from vssl_export.bundle_writer import ExportOptions, export_run
from vssl_export.checking import speed

__all__ = ["finished_run", "small_recipe"]


@pytest.fixture(scope="session", autouse=True)
def _hurry() -> Iterator[None]:
    """Exports in this process measure the speed of a model only as long as it takes to have a figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SPEED_SECONDS", 0.001)
        yield


@pytest.fixture(scope="session")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The run's bundle, read back."""
    location = tmp_path_factory.mktemp("bundles") / "fashion"
    export_run(finished_run, location, "fashion", "1")
    return open_bundle(location)


@pytest.fixture(scope="session")
def precise(finished_run: Path, fashion_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The run's bundle in every precision, judged on labelled images, with the backbone's features."""
    location = tmp_path_factory.mktemp("bundles") / "precise"
    options = ExportOptions(("fp16", "int8"), str(fashion_folder), features=True)
    export_run(finished_run, location, "precise", "1", options)
    return open_bundle(location)
