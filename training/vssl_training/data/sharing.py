"""Images that are decoded once on a machine: its first process does it, and the others look into the same memory."""

import mmap
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch.distributed as dist

from vssl.arrays import Pixels
from vssl.errors import VsslError
from vssl.sources.in_memory import Allocate, ImageSet, new_pixels
from vssl_training.run import processes

CAN_SHARE = hasattr(os, "memfd_create")
"""Linux has files that lie in memory alone, have no name, and go with the last process that looks into them. Unlike
`/dev/shm` they have no limit of their own."""

PATIENCE = timedelta(days=1)
"""How long processes wait for the one that decodes; `torchrun` ends them when it dies."""


def local_processes() -> int:
    """Processes that train on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def copies_here() -> int:
    """How often this machine keeps decoded images in the host's memory."""
    return 1 if CAN_SHARE else local_processes()


def decoded_once(decode: Callable[[Allocate], ImageSet]) -> ImageSet:
    """What `decode` makes in the memory that it asks for, in all processes that `torchrun` started on this machine.

    Raises:
        VsslError: what `decode` raised on any machine, in all processes.
    """
    if processes.size() == 1 or not CAN_SHARE:
        return decode(new_pixels)
    waiting: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
    first = processes.rank() - int(os.environ["LOCAL_RANK"])
    file, images = -1, None
    said: tuple[int, int, int, ImageSet] | VsslError | None = None

    def allocate(count: int, size: int) -> Pixels:
        nonlocal file
        file = os.memfd_create("vssl images")
        os.ftruncate(file, count * size**2 * 3)
        return pixels_in(file, count, size)

    try:
        if processes.rank() == first:
            try:
                images = decode(allocate)
                said = os.getpid(), file, len(images), replace(images, pixels=images.pixels[:0])
            except VsslError as error:
                said = error
        everywhere: list[tuple[int, int, int, ImageSet] | VsslError | None] = [None] * processes.size()
        dist.all_gather_object(everywhere, said, waiting)
        for each in everywhere:
            if isinstance(each, VsslError):
                raise each
        if images is None:
            told = everywhere[first]
            assert isinstance(told, tuple)
            process, theirs, count, about = told
            file = os.open(f"/proc/{process}/fd/{theirs}", os.O_RDWR)
            images = replace(about, pixels=pixels_in(file, count, about.pixels.shape[1]))
        dist.barrier(waiting)  # the first keeps its file open until all have found it
        return images
    finally:
        dist.destroy_process_group(waiting)
        if file >= 0:
            os.close(file)


def pixels_in(file: int, count: int, size: int) -> Pixels:
    """Images, uint8 [count, size, size, 3], at the beginning of an open file."""
    return np.frombuffer(mmap.mmap(file, count * size**2 * 3), np.uint8).reshape(count, size, size, 3)
