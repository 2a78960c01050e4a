"""Any module of torch as a backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.stages import Stages
from vssl_training.recipe.sections import Channels


class ModuleBackbone(Backbone):
    """A module that answers features of images: `final` is its answer, the maps are those of its parts.

    Args:
        module: takes float images [N, 3, S, S], normalised, and answers [N, F]; or maps [N, C, H, W] or tokens
            [N, L, C], which are averaged. Of several things that it answers, the first.
        size: S, by which its stages are found.
        mean: taken off pixels in 0 … 1, for red, green and blue.
        std: what they are divided by then.
        stages: names of the parts whose maps are given; found by themselves if not named.

    Raises:
        UsageError: it does not take such images, answers none of this, or has no such part.
    """

    def __init__(
        self,
        module: nn.Module,
        size: int,
        mean: Channels = (0.0, 0.0, 0.0),
        std: Channels = (1.0, 1.0, 1.0),
        stages: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.net = module
        self.normalising(mean, std)
        self.stages = Stages(module, size, stages)
        self.channels = self.stages.channels
        self.features = pooled(self.stages.answer).shape[1]

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        answer = self.net(self.normalised(images))
        return Features(images, pooled(answer), self.stages.take())


def pooled(answer: Any) -> Tensor:  # noqa: ANN401 — whatever a module answers
    """What a module answers as features [N, F].

    Raises:
        UsageError: it is nothing of the kind.
    """
    if isinstance(answer, (tuple, list, Mapping)):
        answer = next(iter(answer.values() if isinstance(answer, Mapping) else answer), None)
    if not isinstance(answer, Tensor) or not 2 <= answer.ndim <= 4:
        kind = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UsageError(f"the module answers {kind}; it should answer features [N, F], maps or tokens")
    if answer.ndim == 2:
        return answer
    return answer.mean(1) if answer.ndim == 3 else answer.mean((2, 3))
