"""What the frozen backbone says of images and of their degraded copies, kept on disk: heads learn from it in seconds.

One pass, shard by shard, each written whole or not at all: a pass that was killed goes on where it stopped, and ends
with the same numbers. A cache is of one backbone, preprocessing, set of images and set of degradations; its key says
which, and another's is refused.
"""

import hashlib
import inspect
import io
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vssl.arrays import Float32s, Int64s, Mask, Pixels
from vssl.errors import UsageError, VsslError
from vssl.files import atomic_write, locked
from vssl.images import degradations, masks, strengths
from vssl.images.decoding import ImageError, Preprocessing
from vssl.memory import cores
from vssl_training.attaching.copies import Copies
from vssl_training.attaching.photographs import Photographs

SHARD = 32
"""Images of a shard, with all their copies."""

FORMAT = 1

Halves = np.ndarray[tuple[int, ...], np.dtype[np.float16]]

Seen = Callable[[Pixels], tuple[Tensor, Tensor]]
"""Pixels uint8 [n, S, S, 3] → what a head sees of them [n, P], and what the embedding is made of [n, F]."""


@dataclass(frozen=True)
class Cache:
    """What a backbone said of N images, each followed by its C copies; numbers as float16.

    Attributes:
        inputs: what a variance head sees [N, 1 + C, P].
        pooled: what the embedding is made of [N, 1 + C, F].
        kinds: number of the kind of each [N, 1 + C], −1 for the image itself.
        strengths: [N, 1 + C], 0 for the image itself.
        images: which of the photographs they are [N]: those that could be read.
        failures: (path, reason) of the others.
    """

    inputs: Halves
    pooled: Halves
    kinds: Int64s
    strengths: Float32s
    images: Int64s
    failures: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, chosen: Mask) -> "Cache":
        """Some of the images: bool [N]."""
        return Cache(
            self.inputs[chosen],
            self.pooled[chosen],
            self.kinds[chosen],
            self.strengths[chosen],
            self.images[chosen],
            failures=[],
        )


DRAWN_BY = (degradations, masks, strengths)
"""The modules that say how a copy looks."""


def key_of(
    weights: str, preprocessing: Preprocessing, photographs: Photographs, copies: Copies, sees: object
) -> dict[str, str]:
    """What a cache depends on, each as a hash or as text; `sees` says what of the backbone is kept."""
    names = "\n".join(f"{source} {path}" for source, path in photographs.names)
    return {
        "format": str(FORMAT),
        "weights": weights,
        "preprocessing": repr(preprocessing),
        "images": hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
        "copies": repr(copies),
        "degradations": hashlib.sha256("".join(map(inspect.getsource, DRAWN_BY)).encode()).hexdigest(),
        "sees": repr(sees),
    }


def fill(
    folder: Path,
    key: dict[str, str],
    photographs: Photographs,
    copies: Copies,
    preprocessing: Preprocessing,
    see: Seen,
    advance: Callable[[int], None] = lambda done: None,
) -> Cache:
    """Fill a cache as far as it is not filled, and read it.

    Args:
        folder: of the cache.
        key: see `key_of`.
        photographs: what to look at.
        copies: how they are degraded.
        preprocessing: how files become pixels.
        see: the backbone.
        advance: is told how many shards are done.

    Raises:
        UsageError: the folder holds something else, or the cache of something else.
        VsslError: the backbone says what is no finite number.
        OSError: the disk is full, among others.
    """
    own(folder, key)
    shards = [range(first, min(first + SHARD, len(photographs))) for first in range(0, len(photographs), SHARD)]
    missing = [number for number in range(len(shards)) if not shard_path(folder, number).exists()]
    with locked(folder), ThreadPoolExecutor(cores()) as pool:

        def begin(number: int) -> list[Future[Pixels | str]]:
            return [pool.submit(pictures, photographs, copies, preprocessing, image) for image in shards[number]]

        # Two shards are made while the backbone looks at one: memory is bounded whatever the number of images.
        begun = deque(begin(number) for number in missing[:2])
        for place, number in enumerate(missing):
            answers = [job.result() for job in begun.popleft()]
            begun.extend(begin(later) for later in missing[place + 2 : place + 3])
            write_shard(shard_path(folder, number), shards[number], answers, copies, see)
            advance(len(shards) - len(missing) + place + 1)
    return read(folder, len(shards), photographs, copies)


def pictures(photographs: Photographs, copies: Copies, preprocessing: Preprocessing, image: int) -> Pixels | str:
    """An image and its copies, or why it can't be read."""
    try:
        return copies.pictures(image, photographs.read(image, preprocessing))
    except (ImageError, OSError) as error:
        return str(error)


def own(folder: Path, key: dict[str, str]) -> None:
    """Make the folder, or see that it is the cache of this key.

    Raises:
        UsageError: it is another's.
    """
    path = folder / "key.json"
    if not path.is_file():
        if folder.exists() and (
            not folder.is_dir() or any(not each.name.startswith((".", "_")) for each in folder.iterdir())
        ):
            raise UsageError(f"{folder}: holds something else than a cache; name another place")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(key, indent=1).encode())
        return
    try:
        before = json.loads(path.read_bytes())
    except ValueError:
        before = {}
    differing = sorted(name for name in key if not isinstance(before, dict) or before.get(name) != key[name])
    if differing:
        raise UsageError(
            f"{folder}: the cache of another run, with other {', '.join(differing)}; remove it, or name another place"
        )


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{number:06}.npz"


def write_shard(path: Path, images: range, answers: list[Pixels | str], copies: Copies, see: Seen) -> None:
    """Ask the backbone about a shard's pictures, and write what it says.

    Raises:
        VsslError: that is no finite number.
    """
    good = [(image, answer) for image, answer in zip(images, answers, strict=True) if not isinstance(answer, str)]
    columns: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "failed": np.array(
            [image for image, answer in zip(images, answers, strict=True) if isinstance(answer, str)], np.int64
        ),
        "reasons": np.array([answer for answer in answers if isinstance(answer, str)], np.str_),
        "images": np.array([image for image, _ in good], np.int64),
    }
    if good:
        rows = 1 + copies.count
        seen = see(np.concatenate([answer for _, answer in good]))
        for name, values in zip(("inputs", "pooled"), seen, strict=True):
            halves = values.to(torch.float16)
            if not halves.isfinite().all():
                raise VsslError(f"{path}: the backbone's {name} are not finite in 16 bits; take another backbone")
            columns[name] = halves.cpu().numpy().reshape(len(good), rows, -1)
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def read(folder: Path, shards: int, photographs: Photographs, copies: Copies) -> Cache:
    """Read a filled cache.

    Raises:
        UsageError: none of its images can be read.
    """
    parts = []
    for number in range(shards):
        with np.load(shard_path(folder, number), allow_pickle=False) as file:
            parts.append({name: file[name] for name in file.files})
    failures = [
        (photographs.names[image][1], str(reason))
        for part in parts
        for image, reason in zip(part["failed"], part["reasons"], strict=True)
    ]
    filled = [part for part in parts if len(part["images"])]
    if not filled:
        raise UsageError(f"none of {len(photographs)} images can be read; {failures[0][0]}: {failures[0][1]}")
    images = np.concatenate([part["images"] for part in filled])
    drawn = [copies.of(int(image)) for image in images]
    return Cache(
        np.concatenate([part["inputs"] for part in filled]),
        np.concatenate([part["pooled"] for part in filled]),
        np.array([[-1, *(kind for kind, _ in row)] for row in drawn]),
        np.array([[0, *(strength for _, strength in row)] for row in drawn], np.float32),
        images,
        failures,
    )
