"""Linear probes as the field judges by them: one that learns beside a method, and one that sees crops and flips.

Labels reach these probes alone: no gradient goes back to the encoder.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.arrays import Float32s, Floats, Integers, Pixels
from vssl_training.data.order import generator
from vssl_training.encoder.embedder import embed
from vssl_training.encoder.features import Features
from vssl_training.encoder.modes import evaluating
from vssl_training.encoder.student import Encoder
from vssl_training.views.draws import Draws
from vssl_training.views.pixels import to_float
from vssl_training.views.two_views import crop_and_flip

RATE, MOMENTUM = 0.1, 0.9
VIEWS, CROP, FLIP = 4, (0.08, 1.0), 0.5
"""Random views of each image that the offline probe learns from in turn; torchvision's RandomResizedCrop."""


class OnlineProbe:
    """A linear layer that learns from the features of a method's own views, while it trains.

    As in solo-learn (da Costa et al. 2022): cross-entropy on detached features, SGD with momentum, the method's
    schedule. The features are standardised first, so that one rate suits all backbones.
    """

    def __init__(self, encoder: Encoder, labels: Integers, seed: int) -> None:
        self.labels = torch.as_tensor(labels)
        with torch.random.fork_rng():  # the method's own random numbers stay as they are
            torch.manual_seed(seed)
            inputs, classes = encoder.backbone.features, int(self.labels.max()) + 1
            self.layer = nn.Sequential(nn.BatchNorm1d(inputs, affine=False), nn.Linear(inputs, classes))
        self.optimiser = torch.optim.SGD(self.layer.parameters(), RATE, MOMENTUM)
        self.seen: list[Tensor] = []
        encoder.backbone.register_forward_hook(self.see)

    def see(self, module: nn.Module, inputs: object, features: Features) -> None:
        """Keep what the backbone says of a batch that it is trained on, without its history."""
        if module.training:
            self.seen.append(features.final.detach().float())

    def step(self, rows: Tensor, factor: float) -> float:
        """Learn from the two views of these images, at a `factor` of the rate; the loss."""
        features = torch.cat(self.seen)[: 2 * len(rows)]  # small crops come behind
        self.seen.clear()
        self.optimiser.param_groups[0]["lr"] = RATE * factor
        self.optimiser.zero_grad()
        loss = F.cross_entropy(self.layer(features), self.labels[rows].repeat(2))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def accuracy(self, features: Floats, labels: Integers) -> float:
        """Accuracy on clean images by the backbone's features [N, F]."""
        with evaluating(self.layer), torch.no_grad():
            told = self.layer(torch.as_tensor(features, dtype=torch.float32)).argmax(1)
        return float((told.numpy() == labels).mean())


def features_of_views(encoder: Encoder, pixels: Pixels | Tensor, seed: int, views: int = VIEWS) -> Float32s:
    """The backbone's features of random crops and flips of each image, [views, N, F]."""

    def once(number: int) -> Float32s:
        random = generator(seed, number)

        def answer(part: Tensor) -> list[Tensor]:
            features: Features = encoder.backbone(crop_and_flip(to_float(part), CROP, FLIP, Draws(random, len(part))))
            return [features.final]

        return embed(encoder, pixels, answer=answer)[0]

    return np.stack([once(number) for number in range(views)])
