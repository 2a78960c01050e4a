"""Fixtures of the tests of data."""

import shutil
from pathlib import Path

import pytest

from tests.bad_files import bad_files


@pytest.fixture
def damaged(fashion_folder: Path, tmp_path: Path) -> Path:
    """40 images and 5 files that are none."""
    shutil.copytree(fashion_folder, tmp_path / "damaged")
    for name, content in bad_files().items():
        (tmp_path / "damaged" / "bag" / name).write_bytes(content)
    return tmp_path / "damaged"
