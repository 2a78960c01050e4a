"""The models that come with vssl: how they are named, and that nothing writes to them."""

import re
import shutil
from pathlib import Path

import pytest

from vssl.bundle import default
from vssl.bundle.default import builtin_name, default_bundle, located
from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import write_bundle
from vssl.errors import UsageError


def test_they_are_opened_by_their_names() -> None:
    assert open_bundle("builtin:tiny").location == open_bundle(Path("builtin:tiny")).location == default.TINY
    assert located("builtin:default") == default_bundle()
    assert located(Path("some/bundle.zip")) == Path("some/bundle.zip")


def test_another_name_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match=re.escape("builtin:huge: no such model comes with vssl; there are builtin:")):
        open_bundle("builtin:huge")


def test_they_are_known_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_bundle("builtin:tiny").manifest
    assert builtin_name(manifest.id) == "builtin:tiny"
    assert builtin_name("0" * 64) is None
    monkeypatch.setattr(default, "TINY", tmp_path / "none")
    monkeypatch.setattr(default, "LOCATION", tmp_path / "none")
    assert builtin_name(manifest.id) is None


def test_no_bundle_is_written_in_their_place(tmp_path: Path) -> None:
    copy = shutil.copytree(default.TINY, tmp_path / "copy")
    bundle = open_bundle(copy)
    fields = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    with pytest.raises(UsageError, match="builtin:tiny: comes with vssl and stays as it is; copy the folder"):
        write_bundle(Path("builtin:tiny"), fields, files)
    assert open_bundle("builtin:tiny").manifest.id == bundle.manifest.id
