"""The archive for a machine without network, unpacked and run."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.gpu import pack


def test_classes_get_equal_parts() -> None:
    names = [f"train/{label}/{i}.jpg" for label, count in (("a", 9), ("b", 9), ("c", 1)) for i in range(count)]
    found = pack.chosen([*names, "test/a/0.jpg", "train/a/"], 7)
    assert [name.split("/")[1] for name in found] == [*"aaabbbc"]
    with pytest.raises(pack.PackError, match="there are 19 training images"):
        pack.chosen(names, 20)


@pytest.mark.parametrize("arguments", [(), ("-c", "import vssl; print(vssl.__file__)")])
def test_it_runs_where_it_is_unpacked(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    cifar, out = tmp_path / "cifar.zip", tmp_path / "packed.tar.gz"
    with zipfile.ZipFile(cifar, "w") as archive:
        archive.writestr("train/cat/1.jpg", b"an image")
    tree = io.BytesIO()
    files = {"core/vssl/__init__.py": "", "tests/gpu/check.py": "import sys; print(sys.argv[1:])"}
    with tarfile.open(fileobj=tree, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    pack.write(out, [("cifar10.zip", pack.images_of(cifar, 1)), ("site/here", b"")], tree.getvalue())
    with tarfile.open(out) as archive:
        archive.extractall(tmp_path, filter="data")
    there = tmp_path / pack.TOP
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", there / "run.sh", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": path},
        cwd=tmp_path,
    )
    wanted = there / "tree/core/vssl/__init__.py" if arguments else ["--data", str(there / "cifar10.zip")]
    assert done.stdout.strip() == str(wanted)
    with zipfile.ZipFile(there / "cifar10.zip") as images:
        assert images.read("cat/1.jpg") == b"an image"
