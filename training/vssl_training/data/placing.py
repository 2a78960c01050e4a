"""Where decoded images are kept: on the device, in the host's memory, or nowhere, and then they are streamed."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vssl.memory import memory_bytes
from vssl_training.data.sending import sent
from vssl_training.data.sharing import copies_here

SHARE_OF_MEMORY = 0.5
"""Decoded images may fill this part of the host's memory."""

SHARE_OF_DEVICE = 0.9
"""Part of what a step leaves free on a device: its allocator cuts it into pieces, and images are one."""

Place = Literal["device", "host", "stream"]


@dataclass(frozen=True)
class Room:
    """Bytes that images may fill: in a process's part of the `host`'s memory, and on its `device`, if it has its own.

    The host decodes what then lies on the device, so it must have room for both.
    """

    host: float
    device: float | None = None

    def place(self, needed: float) -> Place:
        """Where so many bytes of images are kept."""
        if needed > self.host:
            return "stream"
        return "device" if self.device is None or needed <= self.device else "host"


def room(memory: float, copies: int, free: float | None = None, step: float = 0.0) -> Room:
    """What images may fill.

    Args:
        memory: bytes that the processes of this machine may use together.
        copies: of all images that they keep there.
        free: bytes of the process's own device, before anything lies there; None where that is the host.
        step: bytes that a step was measured to take there.
    """
    on_device = None if free is None else max(0.0, SHARE_OF_DEVICE * (free - step))
    return Room(SHARE_OF_MEMORY * memory / copies, on_device)


def room_here(free: float | None = None, step: float = 0.0) -> Room:
    """`room` of this machine and the processes that `torchrun` started on it."""
    return room(memory_bytes(), copies_here(), free, step)


class HostImages:
    """Images, uint8 [N, S, S, 3], that the device has no room for: each batch is copied there from pinned memory, so
    that the host does not wait for it.
    """

    def __init__(self, pixels: Tensor, device: torch.device) -> None:
        self.pixels, self.device = pixels, device

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images of some rows, on the device."""
        return sent(self.pixels[rows], self.device)
