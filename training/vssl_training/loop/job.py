"""What `train` takes beside its recipe, images and budget."""

from dataclasses import dataclass
from pathlib import Path

from vssl_training.data.loading import MAX_UNREADABLE


@dataclass(frozen=True)
class StartingWeights:
    """Where a run begins: at random, from the weights at `init`, or with those at its second phase."""

    init: Path | None = None
    variance_only: bool = False


@dataclass(frozen=True)
class TrainingOptions:
    """What `train` takes besides.

    Attributes:
        val: labelled images to judge by; never trained on.
        max_unreadable: part of the files that may be damaged.
        start: where to begin.
        tune: measure the switches of `Numerics` first.
        log: services that get the figures too; see `vssl_training.loop.loggers`.
    """

    val: str | None = None
    max_unreadable: float = MAX_UNREADABLE
    start: StartingWeights = StartingWeights()
    tune: bool = False
    log: tuple[str, ...] = ()
