"""Any model of timm as a backbone."""

from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone, Features

STAGES = 5
"""Most stages whose statistics are kept; of a net with more (a ViT's blocks), four are taken at equal distances."""


class TimmNet(Backbone):
    """A model of timm as it is initialised there: `final` is what its classifier would see.

    Args:
        name: of the model in timm.
        size: side of the images in pixels, for models whose tables of positions depend on it.
        cifar_stem: a 3×3 stem of stride 1 without max-pool (ResNets).
        other_sizes: make such a model take images of other sizes too.

    Raises:
        UsageError: timm has no such model, or it can't be had in this form.
    """

    def __init__(self, name: str, size: int, cifar_stem: bool = False, other_sizes: bool = False) -> None:
        import timm

        super().__init__()
        if not timm.is_model(name):
            near = ", ".join(get_close_matches(name, ["small", *timm.list_models()]))
            raise UsageError(f"network.backbone: neither small nor a model of timm: {name}; near it: {near or 'none'}")
        create: Any = timm.create_model  # what it returns has no common type
        config = timm.get_pretrained_cfg(name)
        arguments: dict[str, Any] = {}
        if config is not None and config.fixed_input_size:
            arguments = {"img_size": size} | ({"dynamic_img_size": True} if other_sizes else {})
        try:
            self.net = create(name, pretrained=False, num_classes=0, **arguments)
        except Exception as error:  # a model's constructor refuses in any way it likes
            raise UsageError(f"network.backbone: timm can't build {name} for {size} px: {error}") from error
        if not hasattr(self.net, "forward_intermediates"):
            raise UsageError(f"network.backbone: {name} does not give the maps of its stages; take another model")
        if cifar_stem:
            self._shrink_stem(name)
        self.features = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        stages = len(self.net.feature_info)
        self.indices = list(range(stages)) if stages <= STAGES else [stages * i // 4 - 1 for i in (1, 2, 3, 4)]
        self.channels = tuple(self.net.feature_info[i]["num_chs"] for i in self.indices)

    def _shrink_stem(self, name: str) -> None:
        first = getattr(self.net, "conv1", None)
        if not isinstance(first, nn.Conv2d) or not hasattr(self.net, "maxpool"):
            raise UsageError(f"network.cifar_stem: is for ResNets with a 7×7 stem such as resnet18, not for {name}")
        self.net.conv1 = nn.Conv2d(3, first.out_channels, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(self.net.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.net.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        # With their norm: without it a ViT's maps have a scale of their own, block by block.
        last, maps = self.net.forward_intermediates(self.normalised(images), indices=self.indices, norm=True)
        return Features(images, self.net.forward_head(last, pre_logits=True), tuple(maps))
