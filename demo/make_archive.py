"""Makes an archive of Fashion-MNIST from the files of Debian's package `dataset-fashion-mnist` (MIT, Zalando SE).

`python demo/make_archive.py /usr/share/datasets/fashion-mnist` writes the part of it that is `demo/fashion-mnist.zip`;
with `--out FILE` all 70,000 images go into another.
"""

import argparse
import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
PER_CLASS = {"train": 400, "test": 50}
FILES = {"train": "train", "test": "t10k"}
ALL = {"train": 6000, "test": 1000}
NOTICE = """Fashion-MNIST, the first {train} training and {test} test images of each class, as PNG files.

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def read_idx(path: Path, header: int) -> npt.NDArray[np.uint8]:
    """The bytes of an IDX file behind its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Store one member with a fixed date, so that the archive is the same on every machine."""
    archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)


def write(folder: Path, out: Path, per_class: Mapping[str, int]) -> None:
    """Write the first images of each class of both parts."""
    with zipfile.ZipFile(out, "w") as archive:
        add(archive, "LICENSE", NOTICE.format(**per_class).encode())
        for split, most in per_class.items():
            labels = read_idx(folder / f"{FILES[split]}-labels-idx1-ubyte.gz", 8)
            images = read_idx(folder / f"{FILES[split]}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
            for label, name in enumerate(CLASSES):
                for number, index in enumerate(np.flatnonzero(labels == label)[:most]):
                    file = io.BytesIO()
                    Image.fromarray(images[index]).save(file, "PNG", optimize=True)
                    add(archive, f"{split}/{name}/{number:04d}.png", file.getvalue())


def main() -> None:
    """Write the archive."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("folder", type=Path, help="of the four files")
    flags.add_argument("--out", type=Path, help="a new archive, of all images")
    arguments = flags.parse_args()
    if arguments.out is None:
        write(arguments.folder, Path(__file__).parent / "fashion-mnist.zip", PER_CLASS)
    else:
        write(arguments.folder, arguments.out, ALL)


if __name__ == "__main__":
    main()
