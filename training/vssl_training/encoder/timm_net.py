"""Any model of timm as a backbone."""

import sys
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.stages import Stages

STAGES = 5
"""A net with more (a ViT's blocks) has its maps taken at equal distances: of four, or of eight for `all`."""


class TimmNet(Backbone):
    """A model of timm as it is initialised there: `final` is what its classifier would see.

    Args:
        name: of the model in timm.
        size: side of the images in pixels, for models whose tables of positions depend on it.
        cifar_stem: a 3×3 stem of stride 1 without max-pool (ResNets).
        other_sizes: make such a model take images of other sizes too.
        stages: whose maps are given: the `ends` of each resolution, five at most, or `all`, the stem and the head's
            input too.

    Raises:
        UsageError: timm has no such model, or it can't be had in this form.
    """

    def __init__(
        self,
        name: str,
        size: int,
        cifar_stem: bool = False,
        other_sizes: bool = False,
        stages: Literal["ends", "all"] = "ends",
    ) -> None:
        import timm

        super().__init__()
        config = timm_config(name)
        create: Any = timm.create_model  # what it returns has no common type
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
        count = len(self.net.feature_info)
        parts = min(count, 4 if stages == "ends" else 8)
        self.indices = list(range(count)) if count <= STAGES else [count * i // parts - 1 for i in range(1, parts + 1)]
        self.stages = Stages(self.net, size) if stages == "all" and count <= STAGES else None
        ends = tuple(self.net.feature_info[i]["num_chs"] for i in self.indices)
        self.channels = ends if self.stages is None else self.stages.channels

        named = self.net.pretrained_cfg.get("classifier") or ()
        self.classifiers = tuple(f"{each}." for each in ((named,) if isinstance(named, str) else named))

    def converted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights as timm's model family converts them: names of the authors, tables of positions of other sizes."""
        convert = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        return weights if convert is None else dict(convert(dict(weights), self.net))

    def _shrink_stem(self, name: str) -> None:
        first = getattr(self.net, "conv1", None)
        if not isinstance(first, nn.Conv2d) or not hasattr(self.net, "maxpool"):
            raise UsageError(f"network.cifar_stem: is for ResNets with a 7×7 stem such as resnet18, not for {name}")
        self.net.conv1 = nn.Conv2d(3, first.out_channels, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(self.net.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.net.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        if self.stages is not None:
            last = self.net.forward_features(self.normalised(images))
            return Features(images, self.net.forward_head(last, pre_logits=True), self.stages.take())
        # With their norm: without it a ViT's maps have a scale of their own, block by block.
        last, maps = self.net.forward_intermediates(self.normalised(images), indices=self.indices, norm=True)
        return Features(images, self.net.forward_head(last, pre_logits=True), tuple(maps))


def timm_config(name: str) -> Any:  # noqa: ANN401 — timm's PretrainedCfg, or None
    """What timm knows of a model's published weights.

    Raises:
        UsageError: timm has no such model, or no such weights of it.
    """
    import timm

    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, ["small", *timm.list_models()], n=5, cutoff=0))
        raise UsageError(f"network.backbone: neither small nor a model of timm: {name}; the nearest are {near}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        there = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise UsageError(f"network.backbone: timm publishes no weights {name}; there are {there}") from error
