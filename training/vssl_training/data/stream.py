"""Images that do not fit into memory: worker processes decode the batches of the next steps ahead."""

import ctypes
import itertools
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vssl.arrays import Pixels
from vssl.errors import VsslError
from vssl.images.decoding import DEFAULT_LIMITS, ImageError, Preprocessing, decode, load_rgb, open_guarded
from vssl.memory import cores
from vssl.sources.source import Source
from vssl_training.data.crops import CropOrder, Cuts
from vssl_training.data.order import Everything, Order
from vssl_training.data.placing import HostImages
from vssl_training.data.sending import sent
from vssl_training.data.sharing import local_processes

SHOWN = 5
"""Files that can't be read and are named; more are counted."""

PREFETCH = 2
"""Batches that each worker decodes ahead."""

SHARED_MEMORY = Path("/dev/shm")

Decoded = TypeVar("Decoded")

WORKER_SECONDS = 600.0
"""Seconds in which the workers must bring the next batch: a process that died silently brings none."""


class Stream:
    """Images that stay where they lie: processes decode the batches of the next steps ahead.

    The next readable file takes the place of one that can't be read, the same at every run. The run stops when more
    than `max_unreadable` of the files can't be read.
    """

    def __init__(
        self,
        source: Source,
        paths: list[str],
        preprocessing: Preprocessing,
        device: torch.device,
        max_unreadable: float,
        say: Callable[[str], None],
    ) -> None:
        self.device = device
        self.failures: dict[str, str] = {}
        self._files = _Files(source, paths, preprocessing)
        self._most, self._say = max_unreadable * len(paths), say
        self._next: tuple[Order | Everything | CropOrder, int] | None = None
        self._batches: Iterator[_Batch] = iter(())

    def __len__(self) -> int:
        return len(self._files.paths)

    def take(self, order: Order | Everything, step: int) -> Tensor:
        """Images of one step, uint8 [B, S, S, 3] on the device.

        Raises:
            VsslError: too many of the files can't be read, or a process that decodes them failed.
        """
        return self._taken(order, step)[0]

    def crops(self, order: CropOrder, step: int) -> list[Tensor]:
        """Random crops of the images of one step as they are stored, each image decoded once.

        Returns:
            The two views' [2 B, S, S, 3], all the first, then all the second, uint8 on the device; then those of the
            small crops in the same way, if there are any.

        Raises:
            VsslError: as `take`.
        """
        return self._taken(order, step)

    def _taken(self, order: Order | Everything | CropOrder, step: int) -> list[Tensor]:
        if self._next != (order, step):
            self._batches = self._decode_ahead(order, step)
        try:
            batch = next(self._batches)
        except RuntimeError as error:  # DataLoader's word for a worker that was killed, or that brings nothing
            raise VsslError(f"a process that decodes images failed: {str(error).splitlines()[0]}") from error
        if batch.error is not None:
            raise VsslError(f"a process that decodes images failed: {batch.error}")
        self._next = (order, step + 1)
        for path, reason in batch.failures.items():
            if path not in self.failures and len(self.failures) < SHOWN:
                self._say(f"skipped {path}: {reason}")
            self.failures[path] = reason
        if len(self.failures) > self._most:
            raise too_many_unreadable(len(self.failures), len(self), *next(iter(self.failures.items())))
        return [torch.as_tensor(pixels).to(self.device, non_blocking=True) for pixels in batch.pixels]

    def _decode_ahead(self, order: Order | Everything | CropOrder, step: int) -> "Iterator[_Batch]":
        workers = max(1, cores() // local_processes())
        first = _wanted(order, step)
        side = self._files.preprocessing.size
        each = sum(cuts.pixels for cuts in first.cuts) if first.cuts else side**2
        ahead = (workers * PREFETCH + 1) * len(first.indices) * each * 3
        shared = free_shared_memory()
        if ahead > shared:
            self._say(
                f"{SHARED_MEMORY} has {shared / 2**20:.0f} MiB free and batches need {ahead / 2**20:.0f}: they go "
                "through pipes, which is slower; in Docker give more with --shm-size"
            )
        return iter(
            DataLoader(
                self._files,
                sampler=_Steps(order, step),
                batch_size=None,  # an index is a whole batch
                num_workers=workers,
                prefetch_factor=PREFETCH,
                worker_init_fn=_follow_parent,
                collate_fn=_as_it_is if ahead > shared else _as_tensor,
                pin_memory=self.device.type == "cuda",
                timeout=WORKER_SECONDS,
            )
        )


def free_shared_memory() -> int:
    """Bytes that processes may still share: Docker gives 64 MiB by default."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return sys.maxsize  # not Linux: there is no such limit


class _Batch(NamedTuple):
    """What a worker brings of a batch.

    Attributes:
        pixels: uint8 [B, S, S, 3]; an array goes through a pipe, a tensor through shared memory.
        failures: why files that were replaced could not be read.
        error: why there are no pixels.
    """

    pixels: list[Tensor] | list[Pixels]
    failures: dict[str, str]
    error: str | None = None


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 — DataLoader says a list, and gives what the data set gave
    return batch


def _as_tensor(batch: Any) -> Any:  # noqa: ANN401 — as above
    return batch._replace(pixels=[torch.as_tensor(pixels) for pixels in batch.pixels])


class _Wanted(NamedTuple):
    """Images of a step, and what to cut out of each of them; nothing for the whole image at the recipe's size."""

    indices: list[int]
    cuts: tuple[Cuts, ...]


def _wanted(order: Order | Everything | CropOrder, step: int) -> _Wanted:
    return _Wanted(order(step).tolist(), order.cuts(step) if isinstance(order, CropOrder) else ())


class _Files(Dataset[_Batch]):
    """Decodes a batch in a worker process."""

    def __init__(self, source: Source, paths: list[str], preprocessing: Preprocessing) -> None:
        self.source, self.paths, self.preprocessing = source, paths, preprocessing

    def __getitem__(self, wanted: _Wanted) -> _Batch:
        """Pixels uint8 [B, S, S, 3] or of crops, and why files that were replaced could not be read."""
        failures: dict[str, str] = {}
        try:
            return _Batch(self._pixels(wanted, failures), failures)
        except Exception as error:  # an exception that leaves a worker brings its whole traceback along
            return _Batch([], failures, str(error) or type(error).__name__)

    def _pixels(self, wanted: _Wanted, failures: dict[str, str]) -> list[Pixels]:
        if not wanted.cuts:
            return [np.stack([self._read(index, self._whole, failures) for index in wanted.indices])]

        crops = [
            self._read(index, partial(self._cut, wanted.cuts, position), failures)
            for position, index in enumerate(wanted.indices)
        ]
        return [np.concatenate(np.stack(kind, 1)) for kind in zip(*crops, strict=True)]

    def _whole(self, data: bytes) -> Pixels:
        return decode(data, self.preprocessing)

    def _cut(self, cuts: tuple[Cuts, ...], position: int, data: bytes) -> list[Pixels]:
        with open_guarded(data) as image:
            picture = load_rgb(image)
        return [each.of(picture, position, self.preprocessing.interpolation) for each in cuts]

    def _read(self, index: int, decoded: Callable[[bytes], Decoded], failures: dict[str, str]) -> Decoded:
        for candidate in range(index, index + len(self.paths)):
            path = self.paths[candidate % len(self.paths)]
            try:
                return decoded(self.source.read(path, DEFAULT_LIMITS.max_bytes))
            except (ImageError, OSError) as error:
                failures[path] = str(error)
        raise VsslError("none of the files can be read")


class _Steps(Sampler[_Wanted]):
    """Images of every step from `start` on, without end."""

    def __init__(self, order: Order | Everything | CropOrder, start: int) -> None:
        self.order, self.start = order, start

    def __iter__(self) -> Iterator[_Wanted]:
        for step in itertools.count(self.start):
            yield _wanted(self.order, step)


def _follow_parent(_: int) -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the parent: it saves, and ends its workers.

    A parent that is killed can't. Linux then ends the workers, which would hold the run's lock until they notice.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


Images = Tensor | HostImages | Stream
"""What a run trains on: on its device, in the host's memory, or streamed."""


def batch_of(images: Images, order: Order | Everything, step: int) -> Tensor:
    """Images of one step, uint8 [B, S, S, 3], on the device."""
    if isinstance(images, Stream):
        return images.take(order, step)
    return images[order(step) if isinstance(images, HostImages) else sent(order(step), images.device)]


def too_many_unreadable(bad: int, files: int, path: str, reason: str) -> VsslError:
    """The error that stops a run whose data is damaged."""
    return VsslError(
        f"{bad:,} of {files:,} files can't be read ({path}: {reason}); this is more than --max-unreadable allows: "
        "repair the data, or allow more"
    )
