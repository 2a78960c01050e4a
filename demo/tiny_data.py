"""Makes the archive that `builtin:tiny` was trained on: CIFAR-10's training images and part of Fashion-MNIST's.

`python -m demo.tiny_data CIFAR.zip FASHION.zip OUT.zip`. Both archives have a folder `train` of class folders; the
second is that of `demo/make_archive.py --out`. All images of the first are taken and every sixth of the second, so
that five of six images are of the first. Every 25th of those goes to the folder `calibration`, the others to `train`.
The names of the classes only judge.
"""

import argparse
import zipfile
from pathlib import Path

from demo.make_archive import add
from vssl.images.decoding import DEFAULT_LIMITS
from vssl.sources.opening import open_source

EVERY = {"cifar10": 1, "fashion": 6}
CALIBRATION = 25


def main() -> None:
    """Write the archive."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("cifar", type=Path)
    flags.add_argument("fashion", type=Path)
    flags.add_argument("out", type=Path)
    arguments = flags.parse_args()
    with zipfile.ZipFile(arguments.out, "w") as archive:
        for (name, every), file in zip(EVERY.items(), (arguments.cifar, arguments.fashion), strict=True):
            source = open_source(f"{file}::train")
            for index, path in enumerate(list(source.paths())[::every]):
                folder = "train" if index % CALIBRATION else "calibration"
                add(archive, f"{folder}/{name}-{path}", source.read(path, DEFAULT_LIMITS.max_bytes))
            source.close()


if __name__ == "__main__":
    main()
