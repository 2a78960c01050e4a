"""Data sets of torchvision by name, as sources like any other: `torchvision:CIFAR10`, `torchvision:STL10:unlabeled`."""

import difflib
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vssl.caches import cache_folder
from vssl.errors import UsageError
from vssl.images.names import encode_name
from vssl.sources.opening import open_source
from vssl.sources.source import Source, limited

PREFIX = "torchvision:"


class TorchvisionSet(Source):
    """One split of a data set; the paths are made up: `class/number.bmp`, or `number.bmp` for an unlabelled image."""

    def __init__(self, name: str, dataset: Any) -> None:  # noqa: ANN401 — torchvision has no types
        super().__init__(name)
        self._dataset = dataset
        classes = getattr(dataset, "classes", None)
        self._classes = None if classes is None else [encode_name(str(name).replace("/", "-")) for name in classes]

    def paths(self) -> Iterator[str]:
        """In the data set's own order."""
        for number, target in enumerate(self._targets()):
            label = int(target)
            folder = str(label) if self._classes is None else self._classes[label]
            yield f"{folder}/{number:07}.bmp" if label >= 0 else f"{number:07}.bmp"

    def read(self, path: str, max_bytes: int) -> bytes:
        """The image as a BMP file, which loses nothing."""
        try:
            image = self._dataset[int(Path(path).stem)][0]
        except Exception as error:
            raise OSError(f"torchvision can't read it: {error}") from error
        file = io.BytesIO()
        image.convert("RGB").save(file, "BMP")
        return limited(file.getvalue(), max_bytes)

    def _targets(self) -> Iterator[Any]:
        for name in ("targets", "labels", "_labels"):
            found = getattr(self._dataset, name, None)
            if found is not None:
                return iter(found)
        return (self._dataset[number][1] for number in range(len(self._dataset)))


def open_data(location: str) -> Source:
    """What `open_source` opens, and `torchvision:NAME[:SPLIT][@FOLDER]`.

    The split is `train` if none is named. The data lie in FOLDER, or in `vssl/torchvision` in the user's folder for
    caches, and are downloaded where torchvision can.

    Raises:
        UsageError: torchvision has no such data set or split, or its files are missing.
    """
    if not location.startswith(PREFIX):
        return open_source(location)
    try:
        from torchvision import datasets
    except ModuleNotFoundError as error:
        raise UsageError(f"{location} needs {error.name}: pip install 'vssl[train]'") from error
    rest, _, folder = location.removeprefix(PREFIX).partition("@")
    name, _, split = rest.partition(":")
    if name not in datasets.__all__:
        near = difflib.get_close_matches(name, datasets.__all__) or ["CIFAR10", "STL10", "Food101"]
        raise UsageError(f"{location}: torchvision has no data set {name!r}; there are {', '.join(near)} and others")
    kind = getattr(datasets, name)
    known = inspect.signature(kind).parameters
    options: dict[str, Any] = {}
    if "root" in known:
        options["root"] = folder or cache_folder("torchvision")
    if "split" in known:
        options["split"] = split or "train"
    elif "train" in known and split in ("", "train", "test"):
        options["train"] = split != "test"
    elif split:
        raise UsageError(f"{location}: {name} has no split {split!r}")
    try:
        return TorchvisionSet(rest, opened(kind, options, "download" in known))
    except Exception as error:
        # Whatever each data set raises for a split it has not, missing files, a failed download.
        raise UsageError(f"{location}: {error}") from error


def opened(kind: Any, options: dict[str, Any], may_download: bool) -> Any:  # noqa: ANN401
    """The data set from its files, which are downloaded first only where they are missing."""
    try:
        return kind(**options)
    except RuntimeError:
        if not may_download:
            raise
        Path(options["root"]).mkdir(parents=True, exist_ok=True)
        return kind(**options, download=True)
