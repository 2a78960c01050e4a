"""The examples in docstrings and in the documentation, run as they stand against real servers."""

import doctest
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.client.conftest import pictures
from tests.paths import ROOT
from vssl.bundle.reading import Bundle
from vssl_client import AsyncClient, Client

PAGES = [ROOT / "docs" / "python-client.md"]
MODULES = ["client", "async_client"]


@pytest.fixture
def names(server: str, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the examples take for granted: a server, and images in the working directory."""
    for name, data in zip(("cat.png", "dog.png"), pictures(2), strict=True):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "notes.txt").write_text("bread, milk, two apples")
    monkeypatch.chdir(tmp_path)
    return {
        "bundle": tiny_bundle.location,
        "folder": tmp_path / "galleries",
        "url": server,
        "other_url": server,
        "Client": Client,
        "AsyncClient": AsyncClient,
        "np": np,
    }


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str, names: dict[str, object]) -> None:
    done = doctest.testmod(import_module(f"vssl_client.{module}"), extraglobs=names)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_in_the_documentation(page: Path, names: dict[str, object]) -> None:
    done = doctest.testfile(str(page), module_relative=False, globs=names)
    assert done.attempted > 0
    assert done.failed == 0
