"""One archive of what a GPU machine without network needs: `python -m tests.gpu.pack --cifar CIFAR.zip --out FILE`.

It holds the last commit, training images in one file, wheels of the packages that a machine with torch for Python 3.12
lacks (`--lacks`), and `run.sh`, which sets the paths: on that machine `tar xzf FILE`, and then

    sh vssl-gpu/run.sh                                  # tests.gpu.check
    sh vssl-gpu/run.sh -m vssl_training train --recipe cifar10 --data vssl-gpu/cifar10.zip --out RUN --max-minutes 20

pip gets the wheels from where it is told to, with our constraints.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.paths import ROOT

LIMIT = 60_000_000
"""Bytes of the archive."""

IMAGES = 25_000

TOP = "vssl-gpu"

LACKING = ("httpx2", "platformdirs", "pydantic")
"""Packages that a machine for torch, timm and onnxruntime usually has not; what they need comes along."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

RUN = """#!/bin/sh
# Runs python3 with what this archive holds. Without arguments it checks the GPU.
set -e
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$here/site" ] || python3 -m pip install --quiet --no-index --no-deps --target "$here/site" "$here"/wheels/*.whl
tree=$here/tree
for room in . core gallery client server training export; do path=$path:$tree/$room; done
export PYTHONPATH="$here/site$path"
[ $# -gt 0 ] || { cd "$tree"; set -- -m tests.gpu.check --data "$here/cifar10.zip"; }
exec python3 "$@"
"""


class PackError(Exception):
    """Why there is no archive, and what to do."""


def chosen(names: Iterable[str], count: int) -> list[str]:
    """So many of the training images `train/CLASS/NAME`, as many of each class as the others allow.

    Raises:
        PackError: there are fewer.
    """
    classes: dict[str, list[str]] = {}
    for name in sorted(names):
        match name.split("/"):
            case ["train", label, image] if image:
                classes.setdefault(label, []).append(name)
    turns = (images[i] for i in range(count) for images in classes.values() if i < len(images))
    found = [name for name, _ in zip(turns, range(count), strict=False)]
    if len(found) < count:
        raise PackError(f"--images {count}: there are {len(found)} training images (train/CLASS/NAME)")
    return sorted(found)


def images_of(cifar: Path, count: int) -> bytes:
    """A zip of training images as they are, in folders of their classes."""
    file = io.BytesIO()
    with zipfile.ZipFile(cifar) as source, zipfile.ZipFile(file, "w") as out:
        for name in chosen(source.namelist(), count):
            out.writestr(name.removeprefix("train/"), source.read(name))
    return file.getvalue()


def wheels(names: Iterable[str]) -> list[tuple[str, bytes]]:
    """The packages and what they need, for Python 3.12 on x86-64 Linux.

    Raises:
        PackError: pip finds no wheels of them.
    """
    target = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    target += [flag for platform in PLATFORMS for flag in ("--platform", platform)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "-c", str(ROOT / "constraints.txt")]
        done = subprocess.run([*command, *target, "-d", folder, *names], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PackError(f"pip: {done.stderr.strip().splitlines()[-1]}")
        return [(path.name, path.read_bytes()) for path in sorted(Path(folder).iterdir())]


def write(out: Path, contents: Iterable[tuple[str, bytes]], tree: bytes) -> int:
    """Write the archive; `tree` is a tar of the commit. Returns its bytes."""
    with tarfile.open(out, "w:gz", compresslevel=9) as archive:

        def add(name: str, content: bytes, mode: int = 0o644) -> None:
            entry = tarfile.TarInfo(f"{TOP}/{name}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))

        add("run.sh", RUN.encode(), 0o755)
        for name, content in contents:
            add(name, content)
        with tarfile.open(fileobj=io.BytesIO(tree)) as files:
            for entry in files:
                entry.name = f"{TOP}/tree/{entry.name}"
                archive.addfile(entry, files.extractfile(entry) if entry.isfile() else None)
    return out.stat().st_size


def main() -> int:
    """Write the archive, and say how large it is."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--cifar", type=Path, required=True, help="a .zip with train/CLASS/NAME")
    flags.add_argument("--out", type=Path, required=True, help="the .tar.gz to write")
    flags.add_argument("--images", type=int, default=IMAGES)
    flags.add_argument("--lacks", nargs="*", default=LACKING, metavar="PACKAGE", help=" ".join(LACKING))
    arguments = flags.parse_args()
    try:
        tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        contents = [("cifar10.zip", images_of(arguments.cifar, arguments.images))]
        contents += [(f"wheels/{name}", wheel) for name, wheel in wheels(arguments.lacks)]
        size = write(arguments.out, contents, tree)
        if size > LIMIT:
            arguments.out.unlink()
            raise PackError(f"{size / 1e6:.1f} MB are over {LIMIT / 1e6:.0f}: pack fewer --images")
    except PackError as error:
        sys.stderr.write(f"pack: {error}\n")
        return 1
    print(f"{arguments.out}: {size / 1e6:.1f} MB")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
