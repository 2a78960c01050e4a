"""torchvision's models as backbones."""

from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.module_net import ModuleBackbone

CLASSES = 1000
"""Of ImageNet, which the published weights know."""


class TorchvisionNet(ModuleBackbone):
    """A model of torchvision, at random: `final` is what its classifier would see.

    Args:
        name: of the model in torchvision.
        size: side of the images in pixels, for models whose tables of positions depend on it.

    Raises:
        UsageError: torchvision has no such model, or it can't be had so.
    """

    def __init__(self, name: str, size: int) -> None:
        net = build(name, size)
        linear = [key for key, module in net.named_modules() if isinstance(module, nn.Linear)]
        if not linear or net.get_submodule(linear[-1]).out_features != CLASSES:
            raise UsageError(f"network.backbone: torchvision's {name} ends with no linear classifier; take another")
        net.set_submodule(linear[-1], nn.Identity())
        super().__init__(net, size)
        self.size = size
        self.classifiers = (f"{linear[-1]}.",)

    def converted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights with the table of positions of a ViT resampled for this size."""
        from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

        if not isinstance(self.net, VisionTransformer):
            return weights
        return dict(interpolate_embeddings(self.size, self.net.patch_size, dict(weights)))


def build(name: str, size: int) -> Any:  # noqa: ANN401 — what torchvision returns has no common type
    """A model as torchvision initialises it.

    Raises:
        UsageError: there is none of that name, or none for that size.
    """
    from torchvision import models

    check_name(name)
    try:
        return models.get_model(name, weights=None, **({"image_size": size} if name.startswith("vit_") else {}))
    except Exception as error:  # a model's constructor refuses in any way it likes
        raise UsageError(f"network.backbone: torchvision can't build {name} for {size} px: {error}") from error


def check_name(name: str) -> None:
    """Refuse a name that torchvision does not know.

    Raises:
        UsageError: it is one.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=5, cutoff=0))
        raise UsageError(f"network.backbone: torchvision has no model {name}; the nearest are {near}")
