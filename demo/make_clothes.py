"""Makes the photographs of the demo, `demo/clothes.zip`, from the Clothing dataset (CC0).

`python -m demo.make_clothes CLOTHING.zip`: its `test` folder has class folders of files `SENDER-ID.jpg`. Some of each
class go into `gallery`, and some into `queries`, by other senders, each with a shorter side of 224 pixels.
"""

import argparse
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from demo.make_archive import add

CLASSES = ("Dress", "Hat", "Longsleeve", "Outwear", "Pants", "Shirt", "Shoes", "Shorts", "Skirt", "T-Shirt")
PER_CLASS = {"gallery": 24, "queries": 6}
SIDE, QUALITY = 224, 75
NOTICE = """Photographs of clothes, taken by their senders: a part of the Clothing dataset of Alexey Grigorev and its
senders, https://github.com/alexeygrigorev/clothing-dataset, shrunk. They are in the public domain by CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/), whose text is in the file LICENSE.

The names of the folders are the classes, and the first number of a file's name is its sender. No sender is in both
`gallery` and `queries`.
"""


def shrunk(data: bytes) -> bytes:
    """A JPEG with a shorter side of `SIDE` pixels, without metadata."""
    with Image.open(io.BytesIO(data)) as image:
        scale = SIDE / min(image.size)
        small = image.convert("RGB").resize([round(scale * side) for side in image.size], Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def chosen(names: Sequence[str], part: str) -> list[str]:
    """Images of one class for a part: every third sender's are queries; one of each sender first, then the second."""
    by_sender: dict[int, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_sender[int(Path(name).name.split("-")[0])].append(name)

    def turns() -> Iterator[tuple[int, int, str]]:
        for sender, files in by_sender.items():
            if (sender % 3 == 0) == (part == "queries"):
                yield from ((turn, sender, name) for turn, name in enumerate(files))

    return [name for _, _, name in sorted(turns())][: PER_CLASS[part]]


def main() -> None:
    """Write the archive."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("clothing", type=Path)
    given = zipfile.ZipFile(flags.parse_args().clothing)
    with given, zipfile.ZipFile(Path(__file__).parent / "clothes.zip", "w") as archive:
        add(archive, "NOTICE", NOTICE.encode())
        add(archive, "LICENSE", given.read("LICENSE"))
        for part in PER_CLASS:
            for kind in CLASSES:
                names = [name for name in given.namelist() if name.startswith(f"test/{kind}/")]
                for name in chosen(names, part):
                    add(archive, f"{part}/{kind}/{Path(name).name}", shrunk(given.read(name)))


if __name__ == "__main__":
    main()
