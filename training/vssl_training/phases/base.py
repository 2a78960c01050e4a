"""What both phases share: the images of a step, this process's part of them, and the seconds spent waiting for them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from vssl_training.data.order import Order, generator
from vssl_training.data.stream import Images, batch_of
from vssl_training.judging.online import OnlineJudge
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes
from vssl_training.run.numerics import Numerics
from vssl_training.views.pixels import to_float
from vssl_training.views.resampling import resized


class Phase(ABC):
    """State of one phase of a run, and one step of it.

    Args:
        recipe: what to do.
        pixels: images as they are stored, uint8 [N, S, S, 3], on the device, or a stream of them.
        seed: of every random choice.
        steps: of the whole phase, for the schedules.
        batch: images of a step, over all processes; at most N.
        numerics: switches of this device.

    Raises:
        UsageError: the processes can't share the batch equally.
    """

    name: ClassVar[str]
    """What metrics, checkpoints and schedule call this phase."""
    number: ClassVar[int]
    """Its coordinate of randomness; see `vssl_training.data.order.generator`."""

    def __init__(
        self, recipe: Recipe, pixels: Images, seed: int, steps: int, batch: int, numerics: Numerics | None
    ) -> None:
        self.recipe = recipe
        self.pixels = pixels
        self.seed = seed
        self.steps = steps
        self.batch = min(batch, len(pixels))
        self.part = processes.process_slice(self.batch)
        self.order = Order(seed, self.number, len(pixels), self.batch, self.part)
        self.waited = 0.0
        """Seconds that steps have waited for their images."""
        self.numerics = numerics or Numerics()
        torch.manual_seed(seed)

    def images(self, step: int) -> Tensor:
        """This process's images of a step as they are stored, float [n, 3, S, S] in 0 … 1."""
        with self.waiting():
            return to_float(batch_of(self.pixels, self.order, step))

    def shown(self, images: Tensor) -> Tensor:
        """Images [n, 3, S, S] at the side that the network sees, if they are stored at another."""
        image = self.recipe.image.settled()
        return resized(images, image.size) if isinstance(image.stored, int) else images

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as spent waiting for images."""
        begun = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begun

    def draws(self, step: int) -> Generator:
        """The random numbers of a step, on the device."""
        return generator(self.seed, self.number, step, device=self.pixels.device)

    @abstractmethod
    def step(self, step: int) -> dict[str, Tensor]:
        """Take one step.

        Returns:
            The terms of the loss as tensors: the caller chooses when to read them, and so when to wait for a GPU.
        """

    @abstractmethod
    def judged(self, judge: OnlineJudge) -> dict[str, float]:
        """Figures of what this phase trains."""

    @abstractmethod
    def complaint(self, figures: dict[str, float]) -> str | None:
        """What is wrong with figures of `judged`, or None."""

    def warning(self, figures: dict[str, float]) -> str | None:
        """What to say of figures that are no reason to stop yet, or None."""
        return None

    def alarm(self, figures: dict[str, float]) -> str | None:
        """What is so wrong with figures that the run must stop at once, or None."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but what follows from recipe, seed and step."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
