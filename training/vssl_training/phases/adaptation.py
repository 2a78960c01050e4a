"""How a pretrained encoder learns on: what of it is frozen, and at what pace the rest learns."""

from torch import nn

from vssl.errors import UsageError
from vssl_training.encoder.adapters import add_adapters
from vssl_training.encoder.layers import layers_of
from vssl_training.encoder.student import Encoder, Student
from vssl_training.phases.optimiser import Pace
from vssl_training.phases.schedules import warm_up_cosine
from vssl_training.recipe.pretrained_sections import AdaptSettings
from vssl_training.recipe.sections import OptimiserSettings


def freeze(encoder: Encoder, settings: AdaptSettings, seed: int) -> None:
    """Leave what the settings name to learn, and the heads. A BatchNorm of the backbone keeps its statistics and
    weights: a small batch of another kind of picture would replace what millions of pictures have said.

    Raises:
        UsageError: the backbone has fewer layers than the settings name, or can't be changed at low rank.
    """
    backbone = encoder.train().backbone
    if settings.train.startswith("lora"):
        add_adapters(backbone, settings.number, seed)
    elif settings.train != "all":
        layers = layers_of(backbone)
        if settings.number > len(layers):
            raise UsageError(f"adapt.train={settings.train}: the backbone has {len(layers)} layers")
        learning = {name for layer in layers[len(layers) - settings.number :] for name in layer}
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name in learning)
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval().requires_grad_(False)


def paces(student: Student, settings: AdaptSettings, optimiser: OptimiserSettings) -> dict[str, Pace]:
    """The pace of each parameter of a student that learns: layers at lower rates the nearer they are to the image
    (BEiT, arXiv 2106.08254, appendix), changes of low rank all at the optimiser's rate.
    """
    layers = layers_of(student.encoder.backbone)
    rates = {
        f"encoder.backbone.{name}": settings.layer_decay ** (len(layers) - 1 - number)
        for number, layer in enumerate(layers)
        for name in layer
        if not settings.train.startswith("lora")
    }
    heads = Pace(settings.heads_rate / optimiser.learning_rate)
    return {
        name: Pace(rates.get(name, 1.0), late=True) if name.startswith("encoder.backbone.") else heads
        for name, parameter in student.named_parameters()
        if parameter.requires_grad
    }


def late_factor(step: int, steps: int, settings: AdaptSettings, warm_up: float) -> float:
    """Factor of the backbone's rates at `step` of `steps`: 0 while the heads learn alone, then its own schedule."""
    first = round(settings.heads_first * steps)
    return 0.0 if step < first else warm_up_cosine(step - first, steps - first, warm_up)
