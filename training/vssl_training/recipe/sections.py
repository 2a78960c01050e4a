"""The sections of a recipe, checked by pydantic: together they decide what a run computes.

This module is over 300 lines because every key of a recipe is described here, and nowhere else.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vssl.images.degradations import DEGRADATIONS
from vssl_training.recipe.pretrained_sections import AdaptSettings, DistilSettings
from vssl_training.recipe.section import Range, Section, Share

Form = Literal["A", "B", "balanced"]


Auto = Literal["auto"]
"""What the pretrained model's own configuration says, or else the value of `FROM_SCRATCH`."""

Channels = tuple[float, float, float]
"""A number for red, for green and for blue, of pixels in 0 … 1."""

Deviations = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class ImageSettings(Section):
    """How files become pixels, and pixels what the backbone sees.

    A run writes numbers in the place of `auto` when it starts (`vssl_training.encoder.own_input`).

    Attributes:
        size: side in pixels.
        stored: side in pixels of the images that views are cut out of, the same by default; or `original`: each file is
            decoded anew for its views, which are cut out of the whole picture, whatever its size and shape.
        crop: part of the shorter side that the centred square keeps.
        interpolation: filter of the one resampling.
        fit: how a picture that is no square becomes one.
        decoder: how files are decoded.
        mean: of the pixels in 0 … 1, taken off before the backbone.
        std: what they are divided by then.
        classes: a list of the package or a file of one class a line: images of others are left out.
    """

    size: Annotated[int, Field(ge=16, le=1024)] | Auto = "auto"
    stored: Annotated[int, Field(ge=16, le=4096)] | Literal["original"] | None = None
    crop: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    interpolation: Literal["bilinear", "bicubic"] | Auto = "auto"
    fit: Literal["crop", "crop-round", "crop-floor", "squash", "pad"] | Auto = "auto"
    decoder: Literal["exact", "scaled-1"] = "exact"
    mean: Channels | Auto = "auto"
    std: Deviations | Auto = "auto"
    classes: str | None = None

    def settled(self, known: Mapping[str, Any] = MappingProxyType({})) -> "SettledImage":
        """These settings with the `known` values, or else those of `FROM_SCRATCH`, in the place of each `auto`."""
        values = {**FROM_SCRATCH, **known}
        automatic = {name: values[name] for name in FROM_SCRATCH if getattr(self, name) == "auto"}
        return SettledImage.model_validate(self.model_dump() | automatic)


class SettledImage(ImageSettings):
    """Settings with nothing left that is `auto`."""

    size: int
    crop: float
    interpolation: Literal["bilinear", "bicubic"]
    fit: Literal["crop", "crop-round", "crop-floor", "squash", "pad"]
    mean: Channels
    std: Channels


FROM_SCRATCH: dict[str, Any] = {
    "size": 32,
    "crop": 1.0,
    "interpolation": "bicubic",
    "fit": "crop",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
}
"""What `auto` is for a network that no pretrained model is behind: about mean 0 and variance 1 for natural images."""


class HeadSettings(Section):
    """A multi-layer perceptron with BatchNorm: units of its hidden layers, and how many linear layers in all."""

    hidden: int = Field(default=256, ge=8, le=16384)
    layers: int = Field(default=2, ge=1, le=4)


class WhitenSettings(Section):
    """The directions of largest variance, `dimension` of them, each divided by its standard deviation to the `power`.

    Power 1 is whitening, 0.5 half of it, and 0 the principal components as they are.
    """

    dimension: int = Field(default=256, ge=2, le=4096)
    power: Share = 1.0


class EmbeddingSettings(Section):
    """How the exported embedding is made of what the encoder says, once that is trained.

    Attributes:
        of: `mean`, the head that the encoder is trained by; `features` of the backbone, as its own classifier would see
            them; or `maps` of its last stages.
        cells: of `maps`: each of the last stages has its map averaged to so many cells, in height and in width.
        centre: take away the mean of training images.
        whiten: project it; `auto` lets `vssl attach` choose by images that are held back; without it the embedding has
            all dimensions of what it is made of.
    """

    of: Literal["features", "maps", "mean"] = "mean"
    cells: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(default=(4, 2), min_length=1, max_length=4)
    centre: bool = False
    whiten: WhitenSettings | Literal["auto"] | None = None

    @property
    def fitted(self) -> bool:
        """Whether it is more than the mean head, and so is made after the encoder."""
        return self.of != "mean" or self.centre or self.whiten is not None


class NetworkSettings(Section):
    """The encoder.

    Attributes:
        backbone: `small`, our fast net for small images; the name of any model of timm; `torchvision:NAME`; or
            `hf:FOLDER`, a vision model of Hugging Face's transformers.
        config: of a model of transformers; a run keeps it here, and so needs the folder no more.
        stages: whose maps a network gives, for the embedding and the variance head: the `ends` of each resolution, five
            at most, or `all`: the stem, every stage, and what its own classifier would pool; several layers of a ViT.
        cifar_stem: a 3×3 stem of stride 1 and no max-pool, for timm's ResNets on small images.
        width: channels of the small net's first stage; below 8, oneDNN corrupts memory in one thread without AVX-512.
        depth: residual blocks in each of its stages.
        pool: its last map is averaged to pool × pool cells.
        dimension: D of the mean that the encoder is trained by.
        projector: the head of that mean; the joint variance head has its sizes.
        predictor: the student's alone, on the mean; null for none, where `objective.coding_rate` keeps the means apart.
        clamp: soft bounds of the log variance.
        embedding: what is exported: the mean by default.
    """

    backbone: str = "small"
    stages: Literal["ends", "all"] = "ends"
    config: dict[str, Any] | None = None
    cifar_stem: bool = False
    width: int = Field(default=24, ge=8, le=512)
    depth: int = Field(default=1, ge=1, le=8)
    pool: Literal[1, 2] = 2
    dimension: int = Field(default=64, ge=2, le=4096)
    projector: HeadSettings = HeadSettings()
    predictor: HeadSettings | None = HeadSettings()
    clamp: tuple[Annotated[float, Field(lt=0)], Annotated[float, Field(gt=0)]] = (-6.0, 3.0)
    embedding: EmbeddingSettings = EmbeddingSettings()

    @model_validator(mode="after")
    def _stem(self) -> "NetworkSettings":
        if self.cifar_stem and self.backbone == "small":
            raise ValueError("cifar_stem is for timm's ResNets; the small net has its own stem")
        return self


class ObjectiveSettings(Section):
    """What the encoder minimises; docs/method.md derives the terms.

    Attributes:
        form: how the means enter: `A` and `B` on the sphere, `balanced` with a normalised precision.
        beta: weight of the KL.
        beta_nll: power of the detached variance that weighs each likelihood term (β-NLL); 0 for none.
        decorrelation: weight of the term that keeps the dimensions of the mean apart.
        coding_rate: weight of the term that spreads the means over the sphere; 2 to 3 needs no decorrelation beside it.
        contrastive: weight of InfoNCE between predicted and teacher's means; 0 as in the paper.
        temperature: of InfoNCE.
    """

    form: Form = "balanced"
    beta: float = Field(default=1.0, ge=0)
    beta_nll: Share = 0.0
    decorrelation: float = Field(default=0.1, ge=0)
    coding_rate: float = Field(default=0.0, ge=0)
    contrastive: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=0.2, gt=0)

    @model_validator(mode="after")
    def _combines(self) -> "ObjectiveSettings":
        if self.form == "balanced" and self.beta_nll:
            raise ValueError("form balanced has its own likelihood: beta_nll needs form A or B")
        return self


class SmallCropSettings(Section):
    """Multi-crop (SwAV, arXiv 2006.09882): `count` small views more, for the student alone, of `size` pixels."""

    count: int = Field(default=0, ge=0, le=16)
    size: int = Field(default=16, ge=8, le=512)
    crop: Range = (0.05, 0.2)


class EarlyViews(Section):
    """Views of another `size` in pixels for the first `share` of the steps: small ones make those fast."""

    size: int = Field(ge=8, le=512)
    share: Share


class ViewSettings(Section):
    """The two views: area of the crop, probabilities, and strengths as torchvision's ColorJitter has them.

    Attributes:
        size: side of the two views in pixels, the image's by default; smaller views make faster steps.
        early: another side in the first part of the steps.
        crop: least and most area of a crop.
        jitter: chance of a change of colours by up to `brightness`, `contrast`, `saturation` and `hue`.
        grey: chance of a grey image.
        blur: chance in the first and in the second view; small crops blur as the second.
        blur_sigma: least and most σ of the blur, as parts of the side.
        solarise: chance in the first and in the second view that bright pixels are inverted.
        small_crops: further views of the student.
    """

    size: int | None = Field(default=None, ge=8, le=512)
    early: EarlyViews | None = None
    crop: Range = (0.2, 1.0)
    flip: Share = 0.5
    jitter: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: float = Field(default=0.1, ge=0, le=0.5)
    grey: Share = 0.2
    blur: tuple[Share, Share] = (0.0, 0.0)
    blur_sigma: Range = (0.0005, 0.009)
    solarise: tuple[Share, Share] = (0.0, 0.0)
    small_crops: SmallCropSettings = SmallCropSettings()

    def at(self, done: float) -> "ViewSettings":
        """The settings after a part `done` of the steps: with the `size` that views have then."""
        if self.early is None or done >= self.early.share:
            return self
        return self.model_copy(update={"size": self.early.size})

    @model_validator(mode="after")
    def _ordered(self) -> "ViewSettings":
        for name, area in (("crop", self.crop), ("small_crops.crop", self.small_crops.crop)):
            if not area[0] <= area[1] <= 1:
                raise ValueError(f"views.{name} is [least, most] area of a crop, with least ≤ most ≤ 1")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError("views.blur_sigma is [least, most] with least ≤ most")
        return self


class OptimiserSettings(Section):
    """Linear warm-up, then a cosine to 0. The rate is applied as written, never scaled by the batch.

    Attributes:
        name: AdamW, SGD, LARS, or Muon for the backbone's convolutions and matrices beside AdamW for all else; biases
            and norms are left out of weight decay and of LARS's trust ratio.
        batch: images of a step, over all processes.
        betas: of AdamW.
        muon_rate: learning rate of what Muon trains; `learning_rate` is that of all else.
        momentum: of SGD and LARS.
        eta: trust coefficient of LARS, whose ratio is clipped so that no rate exceeds `learning_rate`.
        warm_up: part of the steps.
        clip: most length of the gradient of all parameters together; longer ones are shortened.
        accumulate: a step's images go through the network in so many parts, for the memory of one; each part has its
            own loss, and the step follows their mean.
        recompute: the student's backbone keeps what goes into its blocks, and computes what is inside again in the
            backward pass: less memory for about a third more time, and the same steps.
    """

    name: Literal["adamw", "sgd", "lars", "muon"] = "adamw"
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.99)
    muon_rate: float = Field(default=8e-3, gt=0)
    momentum: Share = 0.9
    eta: float = Field(default=0.02, gt=0)
    warm_up: Share = 0.1
    clip: float | None = Field(default=None, gt=0)
    accumulate: int = Field(default=1, ge=1)
    recompute: bool = False


LEAST_MOMENTUM = 0.996
"""Of the teacher of a pretrained encoder."""


class TeacherSettings(Section):
    """The moving average: `momentum` τ at the first step; it rises to 1 by a cosine.

    With 0 there is no average: the student itself is the prior of its other view, without gradient, at no cost.
    """

    momentum: Share = 0.985


class DegradationSettings(Section):
    """What the variance head learns from: the strongest severity of each kind, and its chance to strike.

    `jpeg` is the lowest quality; the others are parts of the side, the area, or the range of a pixel.
    """

    probability: Share = 0.15
    crop: Range = (0.08, 1.0)
    blur: float = Field(default=0.1, gt=0)
    low_resolution: Share = 0.15
    occlusion: Share = 0.5
    darkness: float = Field(default=0.05, gt=0, le=1)
    noise: float = Field(default=0.3, ge=0)
    jpeg: float = Field(default=3.0, ge=1, le=90)


class VarianceSettings(Section):
    """The second phase: `share` of the run's time, hidden units, β of the β-NLL, and the views.

    Attributes:
        joint: there is no such phase: the variance head that learned beside the encoder is exported.
        sees: what the head sees of the backbone: `all`, its features with the mean and standard deviation of each
            stage's channels; `stages`, these alone; or `lower`, those of every stage but the last, which hold best for
            other kinds of pictures than those it was trained on.
        dropout: of the hidden units, where it sees no features.
        kinds: degradations that `vssl attach` trains with, by their names in the registry; all of them by default.
        detail: beside the head on the encoder's layers there is a small one on statistics of the images' local
            differences, which is added to it.
        target: of the squared residual: the embedding of the `clean` image, or of the one nearest to it in a bank.
        contrast: weight of a hinge on the order of images: a degraded one is less certain than any clean one.
        bank: training images in the bank.
    """

    joint: bool = False
    sees: Literal["all", "stages", "lower"] = "all"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    kinds: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    share: Share = 0.1
    hidden: int = Field(default=256, ge=8)
    beta_nll: Share = 0.5
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    detail: bool = True
    target: Literal["clean", "neighbour"] = "clean"
    contrast: float = Field(default=0.3, ge=0)
    bank: int = Field(default=4096, ge=2)
    views: DegradationSettings = DegradationSettings()

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [name for name in kinds or () if name not in DEGRADATIONS]
        if unknown:
            raise ValueError(f"{unknown[0]} is no degradation; there are {', '.join(DEGRADATIONS)}")
        return kinds


class AttachSettings(Section):
    """What `vssl attach` looks at: so many `images` of all there are, and degraded `copies` of each."""

    images: int = Field(default=2000, ge=50)
    copies: int = Field(default=4, ge=1, le=64)


class Recipe(Section):
    """A whole recipe; its length is in `minutes` of wall time or in `epochs` of the encoder; where it attaches to a
    frozen backbone, in epochs of the variance head.
    """

    name: str
    image: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    views: ViewSettings = ViewSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    teacher: TeacherSettings = TeacherSettings()
    variance: VarianceSettings = VarianceSettings()
    attach: AttachSettings | None = None
    adapt: AdaptSettings | None = None
    distil: DistilSettings | None = None
    minutes: float | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, ge=1)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.image.settled().size

    @property
    def sizes(self) -> set[int]:
        """Sides of the pictures that the network meets, in pixels: images, views and small crops."""
        small, early = self.views.small_crops, self.views.early
        sizes = {self.size, self.views.size or self.size} | ({small.size} if small.count else set())
        return sizes | (set() if early is None else {early.size})

    @model_validator(mode="after")
    def _variance_of_the_embedding(self) -> "Recipe":
        if self.network.embedding.fitted and (self.variance.joint or not self.variance.share):
            raise ValueError(
                "network.embedding needs the second phase: set it to {of: mean}, or variance.joint and share"
            )
        return self

    @model_validator(mode="after")
    def _kept(self) -> "Recipe":
        if self.adapt is not None and self.distil is not None:
            raise ValueError("adapt and distil exclude each other: set one to null")
        if self.adapt is not None and self.optimiser.name == "muon":
            raise ValueError("optimiser.name is adamw, sgd or lars with adapt, which has a rate for each layer")
        if self.adapt is not None and self.teacher.momentum < LEAST_MOMENTUM:
            raise ValueError(f"teacher.momentum is at least {LEAST_MOMENTUM} with adapt: a faster teacher forgets")
        return self

    @model_validator(mode="after")
    def _length(self) -> "Recipe":
        if (self.minutes is None) == (self.epochs is None):
            raise ValueError("a recipe has either minutes or epochs (set the other to null)")
        return self
