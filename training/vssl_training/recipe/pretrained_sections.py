"""The sections of recipes that build on pretrained weights: take these further, or learn from them."""

from typing import Annotated

from pydantic import Field, StringConstraints

from vssl_training.recipe.section import Section, Share

Trained = Annotated[str, StringConstraints(pattern=r"^(all|heads|(last|lora):[1-9][0-9]{0,3})$")]


class AdaptSettings(Section):
    """How the weights of `--init` are trained on: BatchNorm stays as it is, and the heads, which are new, learn first.

    Attributes:
        train: `all` of the backbone; the `heads` alone; the `last:N` layers of the backbone; or `lora:R`, low-rank
            changes of rank R to its matrices (arXiv 2106.09685), which become part of them at the end.
        heads_first: part of the steps in which the heads alone learn.
        heads_rate: learning rate of the heads; `optimiser.learning_rate` is that of the backbone's last layer.
        layer_decay: factor of the learning rate from each of the backbone's layers to the one before it.
    """

    train: Trained = "all"
    heads_first: Share = 0.2
    heads_rate: float = Field(default=1e-3, gt=0)
    layer_decay: float = Field(default=0.75, gt=0, le=1)

    @property
    def number(self) -> int:
        """N of `last:N`, R of `lora:R`; 0 of the others."""
        return int(self.train.partition(":")[2] or 0)


class DistilSettings(Section):
    """A frozen pretrained network as the prior, in the place of the moving average.

    Attributes:
        backbone: of the prior, named as `network.backbone` is.
        weights: its weights: a file, a run, `pretrained` to ask the hub of its library, or null for its cache here.
    """

    backbone: str
    weights: str | None = None
