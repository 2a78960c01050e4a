"""Recipes: everything that decides what a run computes, as YAML checked by pydantic."""

from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vssl.errors import UsageError

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageSettings(Section):
    """How files become pixels: `size` in pixels, `crop` the part of the shorter side that is kept."""

    size: int = Field(default=32, ge=16, le=512)
    crop: float = Field(default=1.0, gt=0, le=1)


class NetworkSettings(Section):
    """`width` of the small net, `dimension` D of the embedding, `hidden` units of each head."""

    width: int = Field(default=24, ge=4, le=512)
    dimension: int = Field(default=64, ge=2, le=4096)
    hidden: int = Field(default=256, ge=8, le=16384)
    clamp: tuple[Annotated[float, Field(lt=0)], Annotated[float, Field(gt=0)]] = (-6.0, 3.0)


class ObjectiveSettings(Section):
    """Form of the objective, β of the KL, and the weight of the decorrelation term on the student's mean."""

    form: Literal["raw", "A", "B", "balanced"] = "balanced"
    beta: float = Field(default=1.0, ge=0)
    decorrelation: float = Field(default=0.1, ge=0)


class ViewSettings(Section):
    """The two views: area of the crop, probabilities, and strengths as torchvision's ColorJitter has them."""

    crop: Range = (0.2, 1.0)
    flip: Share = 0.5
    jitter: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: float = Field(default=0.1, ge=0, le=0.5)
    grey: Share = 0.2

    @model_validator(mode="after")
    def _ordered(self) -> "ViewSettings":
        if not self.crop[0] <= self.crop[1] <= 1:
            raise ValueError("views.crop is [least, most] area of a crop, with least ≤ most ≤ 1")
        return self


class OptimiserSettings(Section):
    """AdamW with linear warm-up and cosine decay to 0; the rate is applied as written, never scaled by the batch."""

    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warm_up: Share = 0.1
    momentum: Share = 0.985
    """τ of the teacher at the first step; it rises to 1 by a cosine."""


class DegradationSettings(Section):
    """What the variance head learns from: strongest severity of each kind, and the chance of each to strike.

    `jpeg` is the lowest quality; the others are parts of the side, the area, or the range of a pixel.
    """

    probability: Share = 0.3
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
        form: `nll` of the squared residual to a target, or `mc_infonce` of samples among the images of a bank.
        target: the embedding of the `clean` image, or of the image that is nearest to it in a bank.
        ordering: weight of a hinge on the order of pairs: what is harder to tell from others is less certain.
        temperature: of the similarities in `mc_infonce` and `ordering`.
        bank: training images in the bank.
    """

    share: Share = 0.1
    hidden: int = Field(default=256, ge=8)
    beta_nll: Share = 0.5
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    form: Literal["nll", "mc_infonce"] = "nll"
    target: Literal["clean", "neighbour"] = "clean"
    ordering: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=0.1, gt=0)
    bank: int = Field(default=4096, ge=2)
    views: DegradationSettings = DegradationSettings()


class Recipe(Section):
    """A whole recipe."""

    name: str
    image: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    views: ViewSettings = ViewSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    variance: VarianceSettings = VarianceSettings()
    minutes: float = Field(default=5.0, gt=0)


def load_recipe(name: str) -> Recipe:
    """A recipe of the package by its name.

    Raises:
        UsageError: there is none of that name, or it is not valid; one line for each field.
    """
    import yaml

    folder = files("vssl_training") / "recipes"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir()))
        raise UsageError(f"no recipe {name!r}; there are: {known}")
    return parse_recipe(yaml.safe_load(path.read_text()), f"recipe {name}")


def parse_recipe(fields: object, where: str) -> Recipe:
    """Check a recipe's fields; `where` names it in errors."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UsageError("\n".join(lines)) from error


def override(recipe: Recipe, assignments: list[str]) -> Recipe:
    """The recipe with `section.key=value` assignments made, values read as YAML.

    Raises:
        UsageError: an assignment without `=`, an unknown key, or a value that does not fit.
    """
    import yaml

    fields = recipe.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write key=value, such as optimiser.batch=128")
        *sections, last = key.split(".")
        target = fields
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {assignment}: {section} is a value, not a section")
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {assignment}: the value is not valid YAML") from error
    return parse_recipe(fields, "--set")
